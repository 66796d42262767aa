//! Every exercise: as shipped it is unsolved, the chapter's solution solves it, a likely mistake does not.

use pellucid::prelude::*;

type OfTwo = fn(&Tensor) -> Result<Tensor>;

#[track_caller]
fn fails(verdict: check::Verdict, says: &str) {
    assert!(!verdict.passed && verdict.message.contains(says), "{verdict:?} should fail with «{says}»");
    assert!(verdict.text().starts_with("○ Not solved yet. ") && verdict.html().contains("#f3f3f3"));
}

#[track_caller]
fn passes(verdict: check::Verdict) {
    assert!(verdict.passed, "{verdict:?}");
    assert!(verdict.text().starts_with("✓ Solved. ") && verdict.html().contains("#e6f4ea"));
}

fn nodes(n: usize, first: f64) -> Vec<f64> {
    (0..n).map(|k| (k as f64 + first) / n as f64).collect()
}

#[test]
fn middle_rule() {
    fails(check::middle_rule(|n| (vec![0.0; n], vec![1.0 / n as f64; n])), "lean to one side");
    passes(check::middle_rule(|n| (nodes(n, 0.5), vec![1.0 / n as f64; n])));
    fails(check::middle_rule(|n| (nodes(n, 1.0), vec![1.0 / n as f64; n])), "lean to one side");
    fails(check::middle_rule(|n| (nodes(n, 0.5), vec![1.0; n])), "weights sum to 2.0000");
    fails(check::middle_rule(|_| (vec![0.5], vec![1.0])), "2 of each");
    fails(check::middle_rule(|n| (vec![0.5; n], vec![1.0 / n as f64; n])), "The nodes for n = 2");
}

#[test]
fn one_sided_baseline() -> Result<()> {
    let at = |point: &[f64]| Tensor::new(point, &Device::Cpu);
    fails(check::one_sided_baseline(&at(&[0.0, 0.0])?), "must get nothing");
    passes(check::one_sided_baseline(&at(&[0.0, 2.0])?));
    passes(check::one_sided_baseline(&Tensor::new(&[0f32, 2.0], &Device::Cpu)?));
    fails(check::one_sided_baseline(&at(&[1.0, 2.0])?), "f is not 0");
    fails(check::one_sided_baseline(&at(&[0.0])?), "error");
    Ok(())
}

fn straight(f: OfTwo, x: &Tensor, baseline: &Tensor) -> Result<Vec<f64>> {
    Ok(integrated_gradients(f, x, baseline, &Steps::default())?.scores)
}

fn by_the_corner(f: OfTwo, x: &Tensor, baseline: &Tensor) -> Result<Vec<f64>> {
    let corner = Tensor::cat(&[x.narrow(0, 0, 1)?, baseline.narrow(0, 1, 1)?], 0)?;
    Ok(vec![straight(f, &corner, baseline)?[0], straight(f, x, &corner)?[1]])
}

fn by_the_other_corner(f: OfTwo, x: &Tensor, baseline: &Tensor) -> Result<Vec<f64>> {
    let corner = Tensor::cat(&[baseline.narrow(0, 0, 1)?, x.narrow(0, 1, 1)?], 0)?;
    Ok(vec![straight(f, x, &corner)?[0], straight(f, &corner, baseline)?[1]])
}

#[test]
fn corner_path() {
    fails(check::corner_path(straight), "not its parts");
    passes(check::corner_path(by_the_corner));
    fails(check::corner_path(by_the_other_corner), "not its parts");
    fails(check::corner_path(|f, x, baseline| Ok(vec![by_the_corner(f, x, baseline)?[0], 0.0])), "f rises by");
    fails(check::corner_path(|f, x, _| straight(f, x, &x.narrow(0, 0, 1)?)), "error");
}

fn pieces(why: &Attribution) -> Vec<(String, f64)> {
    why.tokens().iter().zip(&why.scores).map(|(token, score)| (token.text.clone(), *score)).collect()
}

fn glued(why: &Attribution, join: fn(f64, f64) -> f64) -> Vec<(String, f64)> {
    let mut words: Vec<(String, f64)> = Vec::new();
    for (text, score) in pieces(why) {
        match (text.strip_prefix("##"), words.last_mut()) {
            (Some(rest), Some(word)) => *word = (format!("{}{rest}", word.0), join(word.1, score)),
            _ => words.push((text, score)),
        }
    }
    words
}

#[test]
fn words() {
    fails(check::words(pieces), "expected «unforgettable», got «un»");
    passes(check::words(|why| glued(why, |word, piece| word + piece)));
    fails(check::words(|why| glued(why, f64::max)), "not their scores");
    fails(check::words(|_| Vec::new()), "got nothing");
}

fn drops(bert: &Bert, text: &Text, together: impl Fn(usize, usize) -> bool) -> Result<Vec<f64>> {
    let (x, blank) = (bert.embed(text)?, bert.baseline(text, &Baseline::token("[MASK]"))?);
    let logit = |x: &Tensor| bert.logits(text, &x.unsqueeze(0)?)?.i((0, 1))?.to_scalar::<f32>().map_err(Error::from);
    let f = |x: &Tensor| logit(x).map(f64::from);
    let whole = f(&x)?;
    let hide = |x: Tensor, i: usize| x.slice_assign(&[i..i + 1, 0..x.dim(1)?], &blank.narrow(0, i, 1)?);
    let without = |i: usize| (0..text.len()).filter(|&j| together(i, j)).try_fold(x.clone(), hide);
    (0..text.len()).map(|i| Ok(whole - f(&without(i)?)?)).collect()
}

#[test]
fn leave_one_out() {
    fails(check::leave_one_out(|_, text| Ok(vec![0.0; text.len()])), "The drops of");
    let one_by_one = |bert: &Bert, text: &Text| drops(bert, text, |i, j| i == j);
    passes(check::leave_one_out(one_by_one));
    let alike = |text: &Text, i: usize, j: usize| text.tokens()[i].text == text.tokens()[j].text;
    let by_text = |bert: &Bert, text: &Text| drops(bert, text, |i, j| alike(text, i, j));
    fails(check::leave_one_out(by_text), "I loved the plot");
    let negated = |bert: &Bert, text: &Text| Ok(one_by_one(bert, text)?.into_iter().map(|drop| -drop).collect());
    fails(check::leave_one_out(negated), "signs");
    fails(check::leave_one_out(|bert, _| bert.read("").map(|_| Vec::new())), "the text is empty");
}

#[test]
fn turning_word() {
    fails(check::turning_word("I loved the film."), "no single word");
    passes(check::turning_word("The film was not bad at all."));
    fails(check::turning_word("The film was bad."), "% positive; I want");
    fails(check::turning_word(""), "the text is empty");
}

#[test]
fn rather_than() {
    let total = |llm: &CausalLm, said: &Continuation, x: &Tensor| Ok::<_, Error>(llm.log_probs(said, x)?.sum(1)?);
    const LONGER: &str = "«painting, traveling» rather than «baking sourdough bread»: number 0 is ";
    fails(check::rather_than(|llm, one, _, x| total(llm, one, x)), LONGER);
    let first = |llm: &CausalLm, said: &Continuation, x: &Tensor| Ok::<_, Error>(llm.log_probs(said, x)?.i((.., 0))?);
    let by_first = check::rather_than(|llm, one, other, x| Ok((first(llm, one, x)? - first(llm, other, x)?)?));
    fails(by_first, &format!("{LONGER}-1.99"));
    passes(check::rather_than(|llm, one, other, x| Ok((total(llm, one, x)? - total(llm, other, x)?)?)));
    fails(
        check::rather_than(|llm, one, other, x| Ok((total(llm, other, x)? - total(llm, one, x)?)?)),
        "The other way round",
    );
    let cut = |llm: &CausalLm, one: &Continuation, other: &Continuation, x: &Tensor| {
        Ok((total(llm, one, x)? - total(llm, other, x)?)?.detach())
    };
    fails(check::rather_than(cut), "No gradient");
}

#[test]
fn plays_chess() {
    let prompt = |place: &str| format!("Michael works as a software engineer in {place}. In his free time, he enjoys");
    fails(check::plays_chess(&prompt("Austin, Texas")), "This is Michael's prompt");
    passes(check::plays_chess(&prompt("Boston, Texas")));
    fails(check::plays_chess(&prompt("Austin, Nevada")), "Now he enjoys");
}

fn removals(llm: &CausalLm, said: &Continuation, gone: impl Fn(&Token) -> bool) -> Result<Vec<f64>> {
    let tokens = said.prompt().tokens();
    let without = |i: Option<usize>| -> Vec<u32> {
        let kept = tokens.iter().enumerate().filter(|(j, token)| Some(*j) != i || !gone(token));
        kept.map(|(_, token)| token.id).collect()
    };
    let prompts: Vec<_> = std::iter::once(None).chain((0..tokens.len()).map(Some)).map(without).collect();
    let values = llm.log_probs_after(&prompts, said)?.sum(1)?.to_vec1::<f32>()?;
    Ok(values[1..].iter().map(|value| f64::from(values[0] - value)).collect())
}

#[test]
fn removed() {
    fails(check::removed(|_, said| Ok(vec![0.0; said.prompt().len()])), "The drops of «painting»: number 1");
    passes(check::removed(|llm, said| removals(llm, said, |token| !token.special)));
    fails(check::removed(|llm, said| removals(llm, said, |_| true)), "The drops of «knitting»: number 0");
}

fn most_looked_at(patterns: &[Tensor], from: usize, to: usize) -> Result<(usize, usize)> {
    let mut best = (0, 0, -1.0);
    for (layer, pattern) in patterns.iter().enumerate() {
        for (head, weight) in pattern.i((0, .., from, to))?.to_vec1::<f32>()?.into_iter().enumerate() {
            if weight > best.2 {
                best = (layer, head, weight);
            }
        }
    }
    Ok((best.0, best.1))
}

#[test]
fn head_that_looks() {
    fails(check::head_that_looks(|_, _, _| Ok((0, 0))), "another one with");
    passes(check::head_that_looks(most_looked_at));
    fails(check::head_that_looks(|_, _, _| Ok((9, 0))), "There is no head 0 in layer 9");
}

#[test]
fn parting_prompt() {
    let prompt = |state: &str| format!("Anna works as a nurse in Denver, {state}. In her free time, she enjoys");
    fails(check::parting_prompt(&prompt("Colorado")), "Both go on with");
    let of_the_chapter = "Michael works as a software engineer in Austin, Nevada. In his free time, he enjoys";
    fails(check::parting_prompt(of_the_chapter), "That one is the chapter's");
    passes(check::parting_prompt(&prompt("Florida")));
}

#[test]
fn words_zeroed() {
    let drops = |llm: &CausalLm, text: &Text| -> Result<Vec<(String, f64)>> {
        let (x, parts) = (llm.embed(text)?, Parts::words(text)?);
        let logits = llm.logits(&x.unsqueeze(0)?)?.squeeze(0)?.to_vec1::<f32>()?;
        let top = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        let f = |x: &Tensor| Target::Logit(top).of(&llm.logits(x)?);
        let drops = feature_ablation(f, &x, &x.zeros_like()?, &parts.groups(&x)?)?.over_parts(&parts)?;
        Ok(drops.tokens().iter().zip(&drops.scores).map(|(token, drop)| (token.text.clone(), *drop)).collect())
    };
    fails(check::words_zeroed(|_, _| Ok(vec![])), "expected «Nancy», got nothing");
    passes(check::words_zeroed(drops));
}

/// Ã = ½(A + I) of the mean or the largest of the heads, rows divided by sums over an axis.
fn layer(map: &Tensor, largest: bool, sums: usize) -> Result<Tensor> {
    let fused = if largest { map.max(1)? } else { map.mean(1)? };
    let mixed = (fused.broadcast_add(&Tensor::eye(map.dim(3)?, map.dtype(), map.device())?)? * 0.5)?;
    let total = mixed.sum(2)?;
    Ok(mixed.broadcast_div(&total.unsqueeze(sums)?)?)
}

fn rolled(maps: &[Tensor], layer: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    maps[1..].iter().try_fold(layer(&maps[0])?, |rolled, map| Ok(layer(map)?.matmul(&rolled)?))
}

#[test]
fn rollouts() {
    let (mean, max) = (HeadFusion::Mean, HeadFusion::Max);
    passes(check::rollout(|maps| rollout(maps, &Rollout::default()), mean));
    passes(check::rollout(|maps| rolled(maps, |map| layer(map, false, 2)), mean));
    passes(check::rollout(|maps| rolled(maps, |map| layer(map, true, 2)), max));
    fails(check::rollout(|maps| rollout(maps, &Rollout::default()), max), "the mean over heads");
    let divided = |maps: &[Tensor]| {
        maps.iter()
            .map(|map| Ok(map.max_keepdim(1)?.broadcast_div(&map.max_keepdim(1)?.sum_keepdim(3)?)?))
            .collect::<Result<Vec<_>>>()
    };
    fails(check::rollout(|maps| rollout(&divided(maps)?, &Rollout::default()), max), "before I was added");
    fails(check::rollout(|maps| rolled(maps, |map| layer(&map.min_keepdim(1)?, false, 2)), max), "read row by row");
    fails(check::rollout(|maps| rolled(maps, |map| layer(map, true, 1)), max), "sums to");
    fails(check::rollout(|maps| rolled(maps, |map| Ok(map.mean(1)?)), mean), "no layer keeps its residual");
    let backwards = |maps: &[Tensor]| rollout(&maps.iter().rev().cloned().collect::<Vec<_>>(), &Rollout::default());
    fails(check::rollout(backwards, mean), "stands on the left");
    let plain_first = |maps: &[Tensor]| Ok(rollout(&maps[1..], &Rollout::default())?.matmul(&maps[0].mean(1)?)?);
    fails(check::rollout(plain_first, mean), "layer 0 enters without its residual");
    fails(check::rollout(|maps| Ok(maps[0].clone()), mean), "I expected");
    fails(check::rollout(|_| Err(Error::EmptyText), mean), "ended in an error");
}

#[test]
fn class_rows() {
    let carried = |maps: &[Tensor]| {
        let (t, first) = (maps[0].dim(3)?, &maps[0]);
        let top = Tensor::eye(t, first.dtype(), first.device())?.narrow(0, 0, 1)?;
        maps.iter().rev().try_fold(top, |row, map| Ok(((row.matmul(&map.mean(1)?.squeeze(0)?)? + row)? * 0.5)?))
    };
    passes(check::class_row(carried));
    fails(check::class_row(|maps| Ok(maps[0].mean(1)?.narrow(1, 0, 1)?.squeeze(1)?)), "With 1 layers");
    fails(check::class_row(|maps| rollout(maps, &Rollout::default())), "I expected a row");
}

#[test]
fn rollout_looks_elsewhere() -> Result<()> {
    let star = Scene::empty(5).with(Shape::Star, Colour::Yellow, 32.0, 32.0, 12.0)?;
    fails(check::rollout_looks_elsewhere(&star), "something beside it");
    let scenes = Scenes::of("pellucid/tiny-vit-shapes")?.scenes;
    assert!(scenes.iter().any(|scene| check::rollout_looks_elsewhere(scene).passed), "the exercise has no solution");
    Ok(())
}

#[test]
fn relevance_mass() {
    let share = |scores: &[f64], mask: &[u8]| {
        let inside: f64 = scores.iter().zip(mask).map(|(score, one)| score.max(0.0) * f64::from(*one)).sum();
        inside / scores.iter().map(|score| score.max(0.0)).sum::<f64>()
    };
    passes(check::relevance_mass(share));
    fails(check::relevance_mass(|scores, _| scores.iter().sum()), "I expected 0.375");
    let signed = |scores: &[f64], mask: &[u8]| {
        scores.iter().zip(mask).map(|(score, one)| score * f64::from(*one)).sum::<f64>() / scores.iter().sum::<f64>()
    };
    fails(check::relevance_mass(signed), "I expected 0.25");
}

#[test]
fn last_object() {
    let ids = |scene: &Scene| scene.mask(scene.objects.len() - 1)?.flatten_all()?.to_vec1::<u8>().map_err(Error::from);
    let mine =
        |scene: &Scene, x: &Tensor| Groups::segments(x, &ids(scene)?.into_iter().map(usize::from).collect::<Vec<_>>());
    passes(check::last_object(mine));
    let inverted = |scene: &Scene, x: &Tensor| {
        Groups::segments(x, &ids(scene)?.into_iter().map(|one| usize::from(one == 0)).collect::<Vec<_>>())
    };
    fails(check::last_object(inverted), "differs from the object");
    fails(check::last_object(|_, x| Groups::patches(x, 32)), "differs from the object");
    fails(check::last_object(|_, x| Groups::patches(&x.narrow(1, 0, 32)?, 32)), "differs from the object");
}

#[test]
fn false_friend() {
    fails(check::false_friend("a green square"), "«a green square» has");
    fails(check::false_friend("a blue star"), "leave «circle» and «star» out");
    fails(check::false_friend("something blue"), "names no shape that is missing");
    passes(check::false_friend("a blue triangle"));
}

#[test]
fn picture_share() {
    let share = |scores: &[f64], picture: std::ops::Range<usize>| {
        let size = |scores: &[f64]| scores.iter().map(|score| score.abs()).sum::<f64>();
        size(&scores[picture]) / size(scores).max(f64::MIN_POSITIVE)
    };
    passes(check::picture_share(share));
    let signed = |scores: &[f64], picture: std::ops::Range<usize>| {
        scores[picture].iter().sum::<f64>() / scores.iter().sum::<f64>()
    };
    fails(check::picture_share(signed), "I expected 0.375");
    let undefined = |scores: &[f64], picture: std::ops::Range<usize>| {
        let size = |scores: &[f64]| scores.iter().map(|score| score.abs()).sum::<f64>();
        size(&scores[picture]) / size(scores)
    };
    fails(check::picture_share(undefined), "I expected 0, got NaN");
}

fn drops_of(size: usize, vlm: &Vlm, prompt: &VisualPrompt, target: Target, blank: &Tensor) -> Result<Vec<f64>> {
    let x = prompt.pixels()?;
    let f = |x: &Tensor| target.of(&vlm.logits(prompt, x)?);
    Ok(feature_ablation(f, &x, blank, &Groups::patches(&x, size)?)?.scores)
}

#[test]
fn cell_drops() {
    passes(check::cell_drops(|vlm, prompt, target, blank| drops_of(8, vlm, prompt, target, blank)));
    fails(
        check::cell_drops(|vlm, prompt, target, blank| drops_of(4, vlm, prompt, target, blank)),
        "256 numbers are one for each patch; the language model reads 64",
    );
    let negated = |vlm: &Vlm, prompt: &VisualPrompt, target: Target, blank: &Tensor| {
        Ok(drops_of(8, vlm, prompt, target, blank)?.into_iter().map(|drop| -drop).collect())
    };
    fails(check::cell_drops(negated), "signs");
    let columns_first = |vlm: &Vlm, prompt: &VisualPrompt, target: Target, blank: &Tensor| {
        let (drops, [rows, columns]) = (drops_of(8, vlm, prompt, target, blank)?, prompt.grid());
        Ok((0..rows * columns).map(|i| drops[i % rows * columns + i / rows]).collect())
    };
    fails(check::cell_drops(columns_first), "The drops of the chapter's picture");
    let as_if_square = |vlm: &Vlm, prompt: &VisualPrompt, target: Target, blank: &Tensor| {
        Ok(drops_of(8, vlm, prompt, target, blank)?.into_iter().take(64).collect())
    };
    fails(check::cell_drops(as_if_square), "The drops of a wide picture: I expected 72 numbers, got 64");
}

#[test]
fn language_prior() {
    fails(check::language_prior("What colour is the square?"), "to one picture and");
    fails(check::language_prior("What colour is the sky?"), "the chapter's own example");
    fails(check::language_prior("What colour is the sea?"), "to one picture and");
    passes(check::language_prior("What colour is a banana?"));
    passes(check::language_prior("What colour is the grass?"));
}

#[test]
fn span_log_odds() {
    let naive = |ln_p: &[f64]| {
        let p = ln_p.iter().sum::<f64>().exp();
        (p / (1.0 - p)).ln()
    };
    let precise = |ln_p: &[f64]| {
        let l: f64 = ln_p.iter().sum();
        l - (-l.exp_m1()).ln()
    };
    fails(check::span_log_odds(naive), "got inf");
    passes(check::span_log_odds(precise));
    fails(check::span_log_odds(|ln_p| ln_p.iter().sum()), "I expected -1.098612, got -1.386294");
    fails(check::span_log_odds(|ln_p| ln_p.iter().map(|l| precise(&[*l])).sum()), "I expected -1.098612, got 0");
    fails(check::span_log_odds(|ln_p| precise(ln_p).min(37.0)), "I expected 44.95");
}

/// How much less a span is likely without some sources: one at a time, or all of them together.
fn summed(cited: &ContextCite, span: std::ops::Range<usize>, gone: &[usize]) -> Result<f64> {
    let alone = cited.leave_one_out(span)?;
    Ok(gone.iter().map(|source| alone.scores[*source]).sum())
}

fn together(cited: &ContextCite, span: std::ops::Range<usize>, gone: &[usize]) -> Result<f64> {
    let f = cited.outputs(span)?;
    let row = |gone: &[usize]| {
        let keep: Vec<bool> = (0..cited.sources().len()).map(|source| !gone.contains(&source)).collect();
        cited.masks().rows().iter().position(|row| *row == keep).unwrap()
    };
    Ok(f[row(&[])] - f[row(gone)])
}

#[test]
fn gone_together() {
    fails(check::gone_together(summed), "Dropped one at a time, sources [1, 3] cost");
    passes(check::gone_together(together));
    fails(check::gone_together(|cited, span, gone| Ok(-together(cited, span, gone)?)), "other way round");
    fails(
        check::gone_together(|cited, span, gone| together(cited, span, &gone[..gone.len().min(1)])),
        "Without sources",
    );
    fails(check::gone_together(|cited, _, gone| together(cited, 0..99, gone)), "error");
    let first_match = |cited: &ContextCite, span: std::ops::Range<usize>, gone: &[usize]| {
        let (f, rows) = (cited.outputs(span)?, cited.masks().rows());
        Ok(f[0] - f[rows.iter().position(|row| gone.iter().all(|&source| !row[source])).unwrap()])
    };
    fails(check::gone_together(first_match), "Without sources");
}

#[test]
fn borrowed() {
    fails(check::borrowed("Where is the lamp?"), "support begins at ln 10");
    fails(check::borrowed("What does Anna play?"), "Anna is who or what you asked about");
    fails(check::borrowed("What does Nina keep?"), "the chapter's own examples");
    fails(check::borrowed("How much does the lamp cost?"), "the chapter's own examples");
    fails(check::borrowed("When was Tom born?"), "rests on no sentence");
    fails(check::borrowed("What does Anna drink?"), "support begins at ln 10");
    passes(check::borrowed("What does Nina play?"));
    passes(check::borrowed("What does Tom play?"));
}

/// The two ways to norm: what is taken off, and what it is divided by.
fn normed(x: &Tensor, gamma: &Tensor, beta: &Tensor, mean: OfTwo, sigma: OfTwo) -> Result<Tensor> {
    let centred = x.broadcast_sub(&mean(&x.mean_keepdim(D::Minus1)?)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
    Ok(centred.broadcast_div(&sigma(&deviation)?)?.broadcast_mul(gamma)?.broadcast_add(beta)?)
}

#[test]
fn frozen_layer_norm() {
    let (kept, frozen): (OfTwo, OfTwo) = (|x| Ok(x.clone()), |x| Ok(x.detach()));
    fails(check::frozen_layer_norm(|x, gamma, beta| normed(x, gamma, beta, frozen, frozen)), "The mean is linear");
    passes(check::frozen_layer_norm(|x, gamma, beta| normed(x, gamma, beta, kept, frozen)));
    fails(check::frozen_layer_norm(|x, gamma, beta| normed(x, gamma, beta, kept, kept)), "takes all of it");
    fails(check::frozen_layer_norm(|x, _, _| Ok(x.clone())), "The values of the norm");
    let by_ratio = |x: &Tensor, gamma: &Tensor, beta: &Tensor| -> Result<Tensor> {
        let rest = normed(x, gamma, &beta.zeros_like()?, kept, kept)?;
        Ok((x * (rest / x)?.detach())?.broadcast_add(beta)?)
    };
    fails(check::frozen_layer_norm(by_ratio), "It adds up, but");
    let but_the_mean = |x: &Tensor, gamma: &Tensor, beta: &Tensor| -> Result<Tensor> {
        let mean = x.mean_keepdim(D::Minus1)?;
        let stiff = (x.detach().broadcast_sub(&mean)? - x.broadcast_sub(&mean)?.detach())?;
        Ok((normed(x, gamma, beta, kept, kept)?.detach() + stiff)?)
    };
    fails(check::frozen_layer_norm(but_the_mean), "Only 1/σ is a factor");
}

#[test]
fn soft_cap() {
    let capped = |x: &Tensor, cap: f64| -> Result<Tensor> { Ok(((x / cap)?.tanh()? * cap)?) };
    let gated = |x: &Tensor, cap: f64| -> Result<Tensor> {
        let gate = x.eq(0.0)?.where_cond(&x.ones_like()?, &(capped(x, cap)? / x)?)?;
        Ok((x * gate.detach())?)
    };
    fails(check::soft_cap(capped), "the gradient as it was");
    passes(check::soft_cap(gated));
    fails(check::soft_cap(|x, cap| Ok((x * (capped(x, cap)? / x)?.detach())?)), "the gate is 0/0");
    fails(check::soft_cap(|x, _| Ok(x.clone())), "The values");
    let nearly = |x: &Tensor, cap: f64| -> Result<Tensor> { Ok((x * (capped(x, cap)? / (x + 1e-6)?)?.detach())?) };
    fails(check::soft_cap(nearly), "number 0 is -29.441043, I expected -29.441042");
}

#[test]
fn other_balance() {
    fails(check::other_balance(Rules::decompx()), "layer 0: Σ x·x̄ is");
    passes(check::other_balance(Rules { gate: Product::Frozen, ..Rules::decompx() }));
    fails(check::other_balance(Rules { gate: Product::Halved, ..Rules::decompx() }), "LibraGrad's own score");
    fails(check::other_balance(Rules { score: Product::Halved, ..Rules::libragrad() }), "LibraGrad's own score");
    fails(check::other_balance(Rules::exact()), "layer 0");
}

#[test]
fn second_half() {
    let halves = |why: &LayerGradients, biases: std::ops::Range<usize>| -> Result<Tensor> {
        let half = why.layers() / 2;
        let mut total = why.relevance(half)?;
        for layer in half + 1..why.layers() {
            total = (total + why.relevance(layer)?)?;
        }
        for bias in &why.biases[biases] {
            total = (total + bias)?;
        }
        Ok(total.squeeze(0)?)
    };
    fails(check::second_half(|why| full_grad_plus(why)?.tensor()), "These are all layers");
    passes(check::second_half(|why| halves(why, 2..why.biases.len())));
    fails(check::second_half(|why| halves(why, 0..0)), "biases are missing");
    fails(check::second_half(|why| halves(why, 2..4)), "The scores for");
    fails(check::second_half(|why| halves(why, 0..why.biases.len())), "those of all layers");
    fails(check::second_half(|why| Ok(why.relevance(3)?.squeeze(0)?)), "The scores for");
}

#[test]
fn beside_the_picture() {
    fails(check::beside_the_picture(|ahead, why| why.scores[..ahead].iter().sum()), "is the class token's");
    passes(check::beside_the_picture(|ahead, why| {
        why.scores[..ahead].iter().sum::<f64>() + why.completeness.unwrap().unattributed
    }));
    fails(check::beside_the_picture(|ahead, why| why.scores[ahead..].iter().sum()), "is not theirs");
}

#[test]
fn libra_looks_elsewhere() -> Result<()> {
    let pair = Scene::empty(11).with(Shape::Circle, Colour::Red, 17.0, 18.0, 11.0)?.with(
        Shape::Star,
        Colour::Blue,
        46.0,
        44.0,
        12.0,
    )?;
    fails(check::libra_looks_elsewhere(&pair), "found by their names");
    fails(check::libra_looks_elsewhere(&pair.without(1)?), "draw another");
    let yellow = |scene: Scene, x, y| scene.with(Shape::Star, Colour::Yellow, x, y, 10.0);
    let twins = yellow(yellow(Scene::empty(5), 17.0, 18.0)?, 46.0, 44.0)?;
    fails(check::libra_looks_elsewhere(&twins), "two objects are called");
    let scenes = Scenes::of("pellucid/tiny-clip-shapes")?.scenes;
    assert!(scenes.iter().any(|scene| check::libra_looks_elsewhere(scene).passed), "the exercise has no solution");
    Ok(())
}

#[test]
fn area_between() {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    fails(check::area_between(|most, least| mean(most) - mean(least)), "the other way round");
    fails(check::area_between(|most, least| least.iter().sum::<f64>() - most.iter().sum::<f64>()), "I expected 0.7");
    passes(check::area_between(|most, least| mean(least) - mean(most)));
}

#[test]
fn paired_difference() {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let squares = |values: &[f64]| values.iter().map(|value| (value - mean(values)).powi(2)).sum::<f64>();
    let paired = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
    let error = |values: &[f64]| (squares(values) / (values.len() - 1) as f64 / values.len() as f64).sqrt();
    fails(
        check::paired_difference(|a, b| (mean(a) - mean(b), (error(a).powi(2) + error(b).powi(2)).sqrt())),
        "not the methods",
    );
    fails(check::paired_difference(|a, b| (mean(b) - mean(a), 0.0)), "is 0.05 here");
    let with = |a: &[f64], b: &[f64], below: f64| {
        let differences = paired(a, b);
        (mean(&differences), (squares(&differences) / below).sqrt())
    };
    fails(check::paired_difference(|a, b| with(a, b, (a.len() * a.len()) as f64)), "n − 1");
    fails(check::paired_difference(|a, b| with(a, b, (a.len() - 1) as f64)), "by √n");
    passes(check::paired_difference(|a, b| (mean(&paired(a, b)), error(&paired(a, b)))));
}

#[test]
fn blind_map() {
    fails(check::blind_map(|_| Ok(vec![0.0; 64])), "I want more than 0.5");
    fails(check::blind_map(|x| Ok(x.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)), "yours has 12288");
    passes(check::blind_map(|x| {
        let grey = pellucid::baseline::mean_colour(x)?;
        let far = (x - grey)?.abs()?.reshape((3, 8, 8, 8, 8))?.sum((0, 2, 4))?;
        Ok(far.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
    }));
}
