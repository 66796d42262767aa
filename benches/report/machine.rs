//! What a run has run on.

use std::collections::BTreeMap;
use std::process::Command;

use crate::common::racer::python;
use crate::common::{Fallible, device};

/// Processor, cores, memory, system, compiler, the peers' versions, and the device, each with its name.
///
/// Errors: no peers.
pub fn describe() -> Fallible<Vec<(String, String)>> {
    let cores = std::thread::available_parallelism()?.to_string();
    let rustc = said(Command::new("rustc").arg("--version"));
    let mut facts = vec![
        ("CPU", line("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into())),
        ("cores", cores),
        ("memory", memory()),
        ("OS", system()),
        ("device", device()),
        ("rustc", rustc.split_whitespace().nth(1).unwrap_or("unknown").into()),
    ];
    let versions: BTreeMap<String, String> = serde_json::from_str(&said(&mut python("versions.py")?))?;
    facts.retain(|(_, value)| !value.is_empty());
    let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value));
    Ok(facts.chain(versions).collect())
}

/// What a command prints.
fn said(command: &mut Command) -> String {
    let printed = command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    printed.unwrap_or_default().trim().to_owned()
}

/// What follows a name, and a colon or an equals sign, in a file of such lines.
fn line(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.trim_start().trim_start_matches([':', '=']).trim().trim_matches('"').to_owned())
}

fn memory() -> String {
    let kib = line("/proc/meminfo", "MemTotal").and_then(|kib| kib.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or("unknown".into(), |kib| format!("{:.0} GiB", kib / 1_048_576.0))
}

fn system() -> String {
    let kernel = said(Command::new("uname").args(["-s", "-r"]));
    line("/etc/os-release", "PRETTY_NAME").map_or(kernel.clone(), |name| format!("{name} ({kernel})"))
}

/// A GPU's name besides its number.
fn device() -> String {
    let name = device::name();
    let query = ["--query-gpu=name,driver_version", "--format=csv,noheader"];
    let card =
        name.strip_prefix("cuda:").map(|number| said(Command::new("nvidia-smi").args(query).args(["-i", number])));
    card.map_or(name.clone(), |card| format!("{name} {card}"))
}
