//! Long work says how far it is, in a cell by lines on standard output.

use std::process::Command;
use std::time::Duration;

use pellucid::prelude::*;

/// Half a second per batch, whatever it is asked.
fn slow(x: &Tensor) -> Result<Tensor> {
    std::thread::sleep(Duration::from_millis(500));
    Ok(x.sum(1)?)
}

#[test]
fn slow_work() -> Result<()> {
    if std::env::var_os("PELLUCID_TEST_SLOW").is_none() {
        return Ok(());
    }
    let x = Tensor::new(&[1f64, 2.0], &Device::Cpu)?;
    integrated_gradients(slow, &x, &x.zeros_like()?, &Steps::gauss_legendre(12).chunk(2))?;
    Ok(())
}

fn said(in_a_cell: bool) -> Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "slow_work", "--nocapture"]).env("PELLUCID_TEST_SLOW", "1");
    if in_a_cell {
        command.env("EVCXR_IS_RUNTIME", "1");
    }
    let output = command.output()?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn a_cell_gets_lines_and_a_pipe_gets_nothing() -> Result<()> {
    let cell = said(true)?;
    assert!(cell.contains("integrated gradients, steps: ") && cell.contains(" of 12, about "), "{cell}");
    assert!(
        cell.matches(" of 12").count() <= 2 && !cell.contains("12 of 12"),
        "few, and none when all is done: {cell}"
    );
    assert!(!said(false)?.contains("of 12"));
    Ok(())
}
