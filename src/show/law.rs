//! The line under every figure: what the method promised, what came out, and what lies between.

use super::labels::{label, shortened};
use super::signed;
use crate::attribution::{Attribution, Completeness, PART};

/// The completeness of an attribution in words; empty for methods that promise none.
pub(super) fn law(attribution: &Attribution) -> String {
    match &attribution.completeness {
        Some(law) => {
            let effort = effort(attribution);
            let at_once = effort.is_empty() && law.steps == 1;
            format!("{}{effort}{}{}", sums(law, at_once), verdict(law, at_once), worst(attribution))
        }
        None => {
            let promise = part(attribution).unwrap_or_else(|| format!("; {} promises no sum", attribution.method));
            format!("Σ scores {}{promise}{}", signed(attribution.sum()), told(attribution))
        }
    }
}

/// The laws of titled attributions: a line for each, or for all that have the same, and one for all that promise no sum.
pub(super) fn laws(titled: &[(&str, &Attribution)]) -> Vec<String> {
    let all = grouped(titled.iter().map(|(title, attribution)| (law(attribution), *title)));
    if let [(law, _)] = &all[..] {
        return vec![law.clone()];
    }
    let is_plain = |a: &Attribution| a.completeness.is_none() && told(a).is_empty();
    let (plain, other): (Vec<_>, Vec<_>) = titled.iter().copied().partition(|(_, attribution)| is_plain(attribution));
    let laws = grouped(other.into_iter().map(|(title, attribution)| (law(attribution), title)));
    let plain = grouped(plain.into_iter().map(|(title, attribution)| (part(attribution), (title, attribution))));
    let plain = plain.into_iter().map(|(part, plain)| unpromised(part, &plain));
    laws.into_iter().map(|(law, titles)| format!("{}: {law}", listed(&titles))).chain(plain).collect()
}

/// Titles that one thing is said of.
pub(super) fn listed(titles: &[&str]) -> String {
    titles.iter().map(|title| shortened(title, 60)).collect::<Vec<_>>().join(" · ")
}

/// The sums of what promises none, or of what is the same part of a whole.
fn unpromised(part: Option<String>, plain: &[(&str, &Attribution)]) -> String {
    let sums = grouped(plain.iter().map(|(title, attribution)| (signed(attribution.sum()), *title)));
    let sums: Vec<_> = sums.into_iter().map(|(sum, titles)| format!("{} {sum}", listed(&titles))).collect();
    let methods = grouped(plain.iter().map(|(_, attribution)| (&attribution.method, ())));
    let promise = part.unwrap_or_else(|| match &methods[..] {
        [(method, _)] => format!("; {method} promises no sum"),
        _ => "; their methods promise no sum".into(),
    });
    format!("Σ scores: {}{promise}", sums.join("; "))
}

/// What comes under the same heading, in the order in which it comes.
pub(super) fn grouped<K: PartialEq, V>(pairs: impl Iterator<Item = (K, V)>) -> Vec<(K, Vec<V>)> {
    let mut groups: Vec<(K, Vec<V>)> = Vec::new();
    for (key, value) in pairs {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

/// Of which part of the whole the scores are; what a law says of the whole it does not say of a part.
fn part(attribution: &Attribution) -> Option<String> {
    let part = attribution.settings.get(PART)?;
    Some(format!(", over {part} only: the rest is left out, and of a part no law speaks"))
}

/// How scores came about that no law vouches for.
fn told(attribution: &Attribution) -> String {
    [held_out(attribution), fast(attribution)].into_iter().flatten().collect()
}

/// How well a surrogate ranks the masks that it was not fitted to, where that was measured.
fn held_out(attribution: &Attribution) -> Option<String> {
    let correlation: f64 = attribution.settings.get("held-out rank correlation")?.parse().ok()?;
    let ranked = format!("; masks it was not fitted to are ranked with correlation {correlation:.2}").replace('-', "−");
    let warning = match correlation >= 0.5 {
        true => "",
        false => " — do not believe these scores: cite a shorter span, draw more masks, or take coarser sources",
    };
    Some(ranked + warning)
}

/// How far fast passes agree with exact ones, where passes were fast.
fn fast(attribution: &Attribution) -> Option<String> {
    let agreement = attribution.settings.get("agreement with exact passes")?.replace('-', "−");
    Some(format!("; passes were fast, agreement with exact ones: {agreement}"))
}

/// What was promised and what came out; `at_once` where there is no baseline.
fn sums(law: &Completeness, at_once: bool) -> String {
    let (promised, got, gap) = (signed(law.promised), signed(law.got), signed(law.gap()));
    let percent = percent(law.relative_gap);
    let beside = match law.unattributed {
        0.0 => String::new(),
        rest => format!(" with {} that no feature has", signed(rest)),
    };
    let whole = if at_once { "f(x)" } else { "f(x) − f(x′)" };
    format!("completeness: promised {whole} = {promised}, got Σ = {got}{beside}, gap {gap} ({percent})")
}

/// Of several outputs, the one whose law is missed the most.
fn worst(attribution: &Attribution) -> String {
    let laws = attribution.outputs.iter().filter_map(|output| Some((output, output.completeness?)));
    let worst = laws.max_by(|a, b| a.1.gap().abs().total_cmp(&b.1.gap().abs()));
    worst.map_or(String::new(), |(output, law)| {
        format!(
            "; of single outputs, «{}» misses by most: {} of {}",
            shortened(&label(&output.name), 40),
            signed(law.gap()),
            signed(law.promised)
        )
    })
}

/// What the method counts its work in.
fn effort(attribution: &Attribution) -> String {
    let counted = ["steps", "permutations", "coalitions"];
    let found = counted.iter().find_map(|name| Some((attribution.settings.get(*name)?, name)));
    found.map_or(String::new(), |(count, name)| format!(" with {count} {name}"))
}

/// What to think of a gap; `at_once` where the method takes a single gradient, and nothing can be refined.
fn verdict(law: &Completeness, at_once: bool) -> String {
    match law.tolerance {
        _ if law.gap().abs() <= law.rounding_floor => "; the gap is rounding".into(),
        Some(tolerance) if !law.reached() => format!("; the tolerance {} was NOT reached", percent(tolerance)),
        Some(tolerance) => format!("; within the tolerance {}", percent(tolerance)),
        None if law.relative_gap > 0.1 && at_once => {
            "; a gradient adds up where every product on the way is balanced: walk back under Rules::libragrad(), from a logit".into()
        }
        None if law.relative_gap > 0.1 => {
            "; a gap this large asks for more steps, for another baseline (from zero, norms make f jump), or for `grad_check`: do \
             rows of f talk to each other, or is a gradient lost on the way?"
                .into()
        }
        None => String::new(),
    }
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".into(),
        tiny if tiny < 0.001 => format!("{tiny:.0e} %").replace('-', "−"),
        small if small < 1.0 => format!("{small:.3} %"),
        large => format!("{large:.1} %"),
    }
}
