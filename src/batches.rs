//! Long work a batch at a time, in smaller batches where memory does not suffice.

use std::ops::Range;

use crate::progress::Progress;
use crate::{Error, Result};

/// `ask` over `0..count`, `batch` at a time; half as many from where memory does not suffice, with a line that says so. What it
/// asked for in vain it is asked again, so it must keep nothing of that.
pub(crate) fn in_batches(
    what: &str,
    count: usize,
    mut batch: usize,
    ask: &mut dyn FnMut(Range<usize>) -> Result<()>,
) -> Result<()> {
    let (mut done, mut progress) = (0, Progress::new(what, count));
    while done < count {
        let some = done..(done + batch.max(1)).min(count);
        match ask(some.clone()) {
            Err(error) if some.len() > 1 && is_out_of_memory(&error) => {
                batch = some.len() / 2;
                progress.say(&format!("memory does not suffice for {} at a time: now {batch}", some.len()));
            }
            asked => {
                asked?;
                done = some.end;
                progress.advance(some.len());
            }
        }
    }
    Ok(())
}

/// Whether a device had no memory left, which it says in its own words.
fn is_out_of_memory(error: &Error) -> bool {
    let said = error.to_string().to_lowercase();
    ["out of memory", "out_of_memory", "alloc_failed"].iter().any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_shrink_until_they_fit() -> Result<()> {
        let (mut answers, mut most) = (Vec::new(), 0);
        in_batches("masks", 20, 16, &mut |some| match some.len() {
            0..=3 => {
                most = most.max(some.len());
                answers.extend(some);
                Ok(())
            }
            _ => Err(Error::argument("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")")),
        })?;
        assert_eq!((answers, most), ((0..20).collect(), 2));
        let mut never = |_: Range<usize>| Err(Error::argument("out of memory"));
        assert!(in_batches("masks", 4, 4, &mut never).is_err_and(|error| error.to_string().contains("out of memory")));
        let mut other = |_: Range<usize>| Err(Error::argument("another error"));
        assert!(in_batches("masks", 4, 4, &mut other).is_err_and(|error| error.to_string().contains("another")));
        Ok(())
    }
}
