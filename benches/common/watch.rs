//! How much of a GPU's memory each process holds, while it holds it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::{Fallible, device};

/// `nvidia-smi`, asked five times a second: the most that each process has held so far, in MiB.
pub struct Watch {
    most: Arc<Mutex<HashMap<u32, f64>>>,
    child: Child,
}

impl Watch {
    /// None on the CPU, where the system counts by itself.
    ///
    /// Errors: a GPU without `nvidia-smi`.
    pub fn start() -> Fallible<Option<Self>> {
        if !device::name().starts_with("cuda") {
            return Ok(None);
        }
        let query = ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits", "-lms", "200"];
        let child = Command::new("nvidia-smi").args(query).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("memory on a GPU is what nvidia-smi says: {error}"))?;
        let lines = BufReader::new(child.stdout.take().ok_or("nvidia-smi without an output")?).lines();
        let most = Arc::new(Mutex::new(HashMap::new()));
        let seen = Arc::clone(&most);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| note(&seen, &line)));
        Ok(Some(Self { most, child }))
    }

    /// What this process has held at most; `None` if nvidia-smi does not know it, as in some containers.
    pub fn most(&self, process: u32) -> Option<f64> {
        self.most.lock().ok()?.get(&process).copied()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// A line «process, MiB».
fn note(most: &Mutex<HashMap<u32, f64>>, line: &str) {
    let numbers = line.split_once(',').map(|(process, held)| (process.trim().parse(), held.trim().parse::<f64>()));
    if let Some((Ok(process), Ok(held))) = numbers
        && let Ok(mut most) = most.lock()
    {
        let so_far = most.entry(process).or_insert(0.0);
        *so_far = so_far.max(held);
    }
}
