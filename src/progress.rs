//! Progress of long work, where somebody can see it: a bar in a terminal, now and then a line in a notebook cell.
//!
//! A kernel cannot take a line back, and a saved notebook keeps it. So there are few: after 2, 4, 8, … seconds, one a minute at
//! least, and none once all is done.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::kernel;

/// Work shorter than this reports nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a line in a cell, the next comes when as much time again has passed, and no later than this.
const MINUTE: Duration = Duration::from_secs(60);

/// Counts finished pieces of work and reports them.
pub(crate) struct Progress {
    what: String,
    total: usize,
    done: usize,
    start: Instant,
    next_line: Duration,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new(what: &str, total: usize) -> Self {
        Self { what: what.into(), total, done: 0, start: Instant::now(), next_line: PATIENCE, bar: None }
    }

    /// `count` more pieces are done.
    pub fn advance(&mut self, count: usize) {
        self.done += count;
        if self.start.elapsed() < self.next_line {
            return;
        }
        if kernel::in_notebook() {
            if self.done < self.total {
                self.line();
            }
        } else if std::io::stderr().is_terminal() {
            self.draw();
        }
    }

    /// Something that whoever waits should know.
    pub fn say(&self, what: &str) {
        // As below: nobody who listens is no reason to panic.
        let _ = match kernel::in_notebook() {
            true => writeln!(std::io::stdout().lock(), "{}: {what}", self.what),
            false => writeln!(std::io::stderr().lock(), "{}: {what}", self.what),
        };
    }

    fn line(&mut self) {
        let (what, done, total, left) = (&self.what, self.done, self.total, self.seconds_left());
        // A notebook that has gone away takes no lines; that is no reason to panic.
        let _ = writeln!(std::io::stdout().lock(), "{what}: {done} of {total}, about {left} s left");
        self.next_line = self.start.elapsed() + self.start.elapsed().min(MINUTE);
    }

    fn draw(&mut self) {
        let left = self.seconds_left();
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len}, about {prefix} s left");
            let bar = ProgressBar::new(self.total as u64).with_message(self.what.clone());
            style.map_or(bar.clone(), |style| bar.with_style(style))
        });
        bar.set_prefix(left.to_string());
        bar.set_position(self.done as u64);
    }

    /// As long again as the work done took, in proportion.
    fn seconds_left(&self) -> u64 {
        let share = self.total.saturating_sub(self.done) as f64 / self.done.max(1) as f64;
        self.start.elapsed().mul_f64(share).as_secs()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
