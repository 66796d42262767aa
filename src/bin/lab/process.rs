//! Other programs: watched, when they take long, or turned into.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// How many of a failed command's last lines are shown.
const TAIL: usize = 25;
/// How cargo's lines begin that are for programs to read: a failed command's last words are not among them.
const FOR_PROGRAMS: &str = "{\"reason\":";
/// How often a log, which cannot rewrite its last line, gets a new one.
const LOG_EVERY: Duration = Duration::from_secs(20);

/// Runs a command to its end, on one living line of the terminal or as plain lines now and then. When it fails, the
/// error carries the last lines it wrote.
pub fn watch(what: &str, command: &mut Command) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    let child = command.stdout(writer.try_clone()?).stderr(writer).spawn();
    let mut child = child.with_context(|| format!("starting {:?}", command.get_program()))?;
    command.stdout(Stdio::null()).stderr(Stdio::null()); // closes our end of the pipe
    let tail = follow(what, BufReader::new(reader));
    match child.wait()? {
        status if status.success() => Ok(()),
        status => bail!(
            "{what} failed ({status}); it last said:\n\n{}\n\n\
             When the cause is out of the way, `cargo lab` goes on from here.",
            Vec::from(tail).join("\n")
        ),
    }
}

/// Becomes another program: signals, the terminal and the exit status are then its own.
#[cfg(unix)]
pub fn turn_into(command: &mut Command) -> Result<()> {
    let error = std::os::unix::process::CommandExt::exec(command);
    Err(error).with_context(|| format!("starting {:?}", command.get_program()))
}

#[cfg(not(unix))]
pub fn turn_into(_: &mut Command) -> Result<()> {
    bail!("`cargo lab` runs on Linux and macOS; on Windows, use it inside WSL 2")
}

/// Shows the lines as they come and returns the last of them.
fn follow(what: &str, lines: impl BufRead) -> VecDeque<String> {
    let mut display = Display::new(what);
    let mut tail = VecDeque::new();
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        display.say(line.trim());
        if !line.starts_with(FOR_PROGRAMS) {
            tail.push_back(line);
        }
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
    display.finish();
    tail
}

enum Display {
    Spinner(ProgressBar),
    Log { since: Instant, last: Instant },
}

impl Display {
    fn new(what: &str) -> Display {
        let style = ProgressStyle::with_template("{spinner} {elapsed_precise}  {prefix}  {wide_msg:.dim}");
        let spinner = ProgressBar::new_spinner().with_prefix(what.to_owned());
        if spinner.is_hidden() {
            eprintln!("{what} …"); // no terminal that can rewrite a line
            return Display::Log { since: Instant::now(), last: Instant::now() };
        }
        spinner.set_style(style.expect("the template is well-formed"));
        spinner.enable_steady_tick(Duration::from_millis(100));
        Display::Spinner(spinner)
    }

    fn say(&mut self, line: &str) {
        match self {
            Display::Spinner(spinner) => spinner.set_message(line.to_owned()),
            Display::Log { since, last } if last.elapsed() >= LOG_EVERY => {
                *last = Instant::now();
                eprintln!("    {:4} s  {line}", since.elapsed().as_secs());
            }
            Display::Log { .. } => {}
        }
    }

    fn finish(&self) {
        match self {
            Display::Spinner(spinner) => spinner.finish_with_message(""),
            Display::Log { since, .. } => eprintln!("    {:4} s", since.elapsed().as_secs()),
        }
    }
}
