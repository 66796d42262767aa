//! The README's figure is what its program prints.

use pellucid::prelude::*;

#[test]
fn the_readme_shows_what_its_program_prints() -> Result<()> {
    let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    let text = bert.read("I absolutely loved the movie!")?;
    let x = bert.embed(&text)?;
    let absent = bert.baseline(&text, &Baseline::token("[MASK]"))?;
    let positive = Target::Logit(bert.label("positive")?);
    let f = |x: &Tensor| positive.of(&bert.logits(&text, x)?);
    let why = integrated_gradients(f, &x, &absent, &Steps::default())?.over(&text)?.words()?;
    let why = why.named(positive.describe(&bert.labels()));
    let readme = include_str!("../README.md");
    // the last line ends in rounding, which differs between machines
    for line in why.text().lines().filter(|line| !line.starts_with("completeness")) {
        assert!(readme.contains(line.trim_end()), "the README lacks «{line}»");
    }
    Ok(())
}
