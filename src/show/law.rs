//! The line under every figure: what the method promised, what came out, and what lies between.

use super::signed;
use super::strip::label;
use crate::attribution::{Attribution, Completeness};

/// The completeness of an attribution in words; empty for methods that promise none.
pub(super) fn law(attribution: &Attribution) -> String {
    match &attribution.completeness {
        Some(law) => {
            let effort = effort(attribution);
            let at_once = effort.is_empty() && law.steps == 1;
            format!("{}{effort}{}{}", sums(law, at_once), verdict(law, at_once), worst(attribution))
        }
        None => {
            let told = [held_out(attribution), fast(attribution)].into_iter().flatten().collect::<String>();
            format!("Σ scores {}; {} promises no sum{told}", signed(attribution.sum()), attribution.method)
        }
    }
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
            label(&output.name),
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
        tiny if tiny < 0.001 => format!("{tiny:.0e} %"),
        small if small < 1.0 => format!("{small:.3} %"),
        large => format!("{large:.1} %"),
    }
}
