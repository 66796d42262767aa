//! Every kind of figure, put through texts and scores that displays stumble over.

use pellucid::prelude::*;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::{blank, figures, parted, read, signed_map, svgs};

/// Texts that displays stumble over, as tokens; the first and the last of some are special.
const HARD: [(&str, &[&str], bool); 8] = [
    ("plain", &["[CLS]", "I", " loved", " it", "!", "[SEP]"], true),
    ("Arabic", &["[CLS]", "أحببت", " هذا", " الفيلم", " (2021)", "،", " مملة", "!", "[SEP]"], true),
    ("Hebrew", &["אהבתי", " את", " Matrix", "!", " 100%"], false),
    ("Chinese", &["我", "非常", "喜欢", "这部", "电影", "。", "とても", "영화가", " mixed"], false),
    (
        "emoji",
        &["I", " ❤\u{fe0f}", " 👩\u{200d}👩\u{200d}👧", " 🇩🇪", "👩", "\u{200d}", " e\u{301}", "\u{301}", "\u{feff}"],
        false,
    ),
    (
        "bytes",
        &[
            "<0xE4>",
            "…\u{fffd}",
            " ",
            "   ",
            "\n",
            "\n\n",
            "\t",
            "\r\n",
            "a\nb",
            "\0",
            "\u{7}",
            "\u{1b}[31m",
            "",
            "\u{ffff}",
        ],
        false,
    ),
    (
        "HTML",
        &["<script>alert('x')</script>", "&amp;", "\"><img src=x onerror=alert(1)>", "</span></div>", " \u{202e}evil"],
        false,
    ),
    ("one", &["word"], false),
];

/// The score of the token at a place.
type ScoreOf = fn(usize) -> f64;

/// Scores that displays stumble over.
const SCORES: [(&str, ScoreOf); 7] = [
    ("mixed", |i| [1.0, -0.5, 0.25, 0.0, -1.0][i % 5]),
    ("zero", |_| 0.0),
    ("equal", |_| 0.7),
    ("negative", |_| -0.7),
    ("tiny", |i| 1e-12 * (i as f64 - 2.0)),
    ("huge", |i| 1e12 * (i as f64 - 2.0)),
    ("huge and tiny", |i| [1e12, -1e-12, f64::MIN_POSITIVE, 1.0][i % 4]),
];

/// Scores over tokens as they are.
fn over_tokens(words: &[&str], has_special: bool, scores: Vec<f64>) -> Result<Attribution> {
    let (mut text, last) = (String::new(), words.len() - 1);
    let token = |(i, word): (usize, &&str)| {
        let (start, special) = (text.len(), has_special && (i == 0 || i == last));
        text.push_str(if special { "" } else { word });
        Token { text: word.to_string(), id: 0, start, end: text.len(), word: Some(i as u32), special }
    };
    let tokens = words.iter().enumerate().map(token).collect();
    let why = gradient_x_input(|x| Ok(x.sum(1)?), &Tensor::zeros(words.len(), DType::F64, &Device::Cpu)?)?;
    Ok(Attribution { features: Features::Tokens { text, tokens }, scores, target: words.concat(), ..why })
}

/// The same of several outputs, which are called like the tokens.
fn with_outputs(why: &Attribution, count: usize) -> Attribution {
    let output = |i: usize| {
        let name = why.tokens()[i % why.tokens().len()].text.clone();
        Output { name, scores: why.scores.clone(), completeness: None }
    };
    Attribution { outputs: (0..count).map(output).collect(), ..why.clone() }
}

type Kind = fn(&Attribution) -> Result<Box<dyn Show>>;

/// Every kind of figure of scores over a text.
const OVER_A_TEXT: [(&str, Kind); 9] = [
    ("strip", |why| Ok(Box::new(HeatStrip::new(why)))),
    ("strip with special tokens", |why| Ok(Box::new(HeatStrip::new(why).with_special()))),
    ("words", |why| Ok(Box::new(why.words()?))),
    ("parts", |why| {
        let parts: Vec<&str> = why.tokens().iter().map(|token| token.text.as_str()).collect();
        Ok(Box::new(parted(&parts.concat(), &parts, &why.scores)?.named(&why.target)))
    }),
    ("table", |why| Ok(Box::new(why.table()))),
    ("table with intervals", |why| Ok(Box::new(why.table().between(&why.scores, &why.scores)?))),
    ("bars", |why| Ok(Box::new(why.bars()))),
    ("comparison", |why| {
        Ok(Box::new(Comparison::new(&[(&why.target, why), ("二つ目", &why.clone().named("other"))])?))
    }),
    ("matrix", |why| Ok(Box::new(Matrix::new(&with_outputs(why, 3))?))),
];

/// Every kind of figure of scores over a picture of 6 × 4 patches.
const OVER_A_PICTURE: [(&str, Kind); 6] = [
    ("map", |why| Ok(Box::new(why.clone()))),
    ("overlay", |why| Ok(Box::new(Overlay::new(&blank(60, 40)?, why)?))),
    ("mask", |why| Ok(Box::new(Overlay::new(&blank(60, 40)?, why)?.mask(0.2)?))),
    ("contours", |why| Ok(Box::new(Overlay::new(&blank(60, 40)?, why)?.contours(&[-0.5, 0.5])?))),
    ("gallery", |why| Ok(Box::new(Gallery::row(&[(&why.target, why), ("二つ目", &blank(60, 40)?)])?))),
    ("grid", |why| {
        Ok(Box::new(
            Gallery::grid(&[&why.target], &[&why.target, "2"], |_, _| Overlay::new(&blank(60, 40)?, why))?
                .one_scale()?,
        ))
    }),
];

/// Charts whose every word is hard.
const CHARTS: [(&str, Kind); 4] = [
    ("curves", |why| {
        let band = why.scores.iter().map(|score| (*score, *score)).collect();
        Ok(Box::new(Chart::curves(&why.target, &why.target, &why.target, vec![curve(why)]).between(vec![band])?))
    }),
    ("logarithmic curves", |why| Ok(Box::new(Chart::curves(&why.target, "x", "y", vec![curve(why); 8]).log_log()))),
    ("scatter", |why| {
        Ok(Box::new(Chart::scatter("", &why.target, "y", vec![curve(why)]).diagonal().note(&why.target)))
    }),
    ("free bars", |why| {
        Ok(Box::new(Chart::bars("", "score", vec![(why.target.clone(), why.scores[0]), ("none".into(), f64::NAN)])))
    }),
];

fn curve(why: &Attribution) -> Series {
    let points = why.scores.iter().enumerate().map(|(i, score)| (i as f64, *score)).collect();
    Series { name: why.target.clone(), points }
}

/// Every kind of figure of every hard text, and of an easy one with every hard score, with a name for it.
fn hard() -> Result<Vec<(String, Box<dyn Show>)>> {
    let mut figures = Vec::new();
    let pairs = HARD.iter().map(|text| (text, &SCORES[0])).chain(SCORES.iter().map(|scores| (&HARD[0], scores)));
    for ((text, words, has_special), (scores, score)) in pairs {
        let why = over_tokens(words, *has_special, (0..words.len()).map(score).collect())?;
        let map = Attribution { scores: (0..24).map(score).collect(), ..signed_map(4, 6)? }.named(&why.target);
        let kinds = [(&OVER_A_TEXT[..], &why), (&OVER_A_PICTURE, &map), (&CHARTS, &why)];
        for ((kind, figure), why) in kinds.iter().flat_map(|(kinds, why)| kinds.iter().map(move |kind| (kind, why))) {
            figures.push((format!("{kind} of {text} with {scores} scores"), figure(why)?));
        }
    }
    Ok(figures)
}

/// The tags of a document, each with what stands in it.
fn tags(document: &str) -> Vec<(&str, &str)> {
    let inside = document.split('<').skip(1).map(|piece| piece.split_once('>').map_or(piece, |(tag, _)| tag));
    inside.map(|tag| tag.split_once(' ').unwrap_or((tag, ""))).collect()
}

/// Whether every tag that is opened is closed, in order.
fn is_balanced(document: &str) -> bool {
    let mut open = Vec::new();
    for (tag, _) in tags(document) {
        match tag.strip_prefix('/') {
            Some(closed) if open.pop() != Some(closed) => return false,
            Some(_) => {}
            None if matches!(tag, "img" | "br") => {}
            None => open.push(tag),
        }
    }
    open.is_empty()
}

/// What an attribute says, in every tag that has it.
fn attribute<'a>(document: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    document.split(start.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// What an untrusted JupyterLab leaves of a tag, and of a style.
const TAGS: [&str; 12] = ["figure", "figcaption", "div", "span", "b", "bdi", "br", "img", "table", "tr", "th", "td"];
const ATTRIBUTES: [&str; 6] = ["style", "title", "dir", "alt", "src", "scope"];
const STYLES: [&str; 25] = [
    "background-color",
    "border",
    "border-collapse",
    "border-left",
    "border-radius",
    "border-top",
    "color",
    "display",
    "font-family",
    "font-size",
    "font-weight",
    "line-height",
    "margin",
    "margin-top",
    "max-width",
    "min-width",
    "overflow-wrap",
    "overflow-x",
    "padding",
    "padding-top",
    "text-align",
    "text-decoration",
    "vertical-align",
    "white-space",
    "width",
];
/// Where more is let through, this too; a figure can be read without.
const STRIPPED: [&str; 5] = ["flex", "flex-wrap", "align-items", "print-color-adjust", "-webkit-print-color-adjust"];

/// All figures, hard and ordinary.
fn all() -> Result<Vec<(String, Box<dyn Show>)>> {
    let ordinary = figures()?.into_iter().map(|(name, figure)| (name.to_string(), figure));
    Ok(ordinary.chain(hard()?).collect())
}

#[test]
fn everything_is_escaped_and_survives_an_untrusted_notebook() -> Result<()> {
    for (name, figure) in all()? {
        let html = figure.html();
        assert!(
            html.starts_with("<figure style=\"") && html.contains("background-color: #ffffff"),
            "{name} has no card"
        );
        assert!(is_balanced(&html), "{name}: {html}");
        for (tag, inside) in tags(&html).into_iter().filter(|(tag, _)| !tag.starts_with('/')) {
            let names = inside.split('"').step_by(2).map(|part| part.trim_matches([' ', '=', '/']));
            assert!(TAGS.contains(&tag), "{name} has a {tag}");
            names.for_each(|part| assert!(part.is_empty() || ATTRIBUTES.contains(&part), "{name}: {tag} {part}"));
        }
        for style in attribute(&html, "style").into_iter().flat_map(|style| style.split(';')) {
            let property = style.split(':').next().unwrap_or_default().trim();
            assert!(STYLES.contains(&property) || STRIPPED.contains(&property), "{name}: {style}");
        }
        assert!(attribute(&html, "src").iter().all(|source| source.starts_with("data:image/")), "{name}");
    }
    Ok(())
}

#[test]
fn pictures_are_whole_documents_of_any_name_and_number() -> Result<()> {
    for (name, figure) in all()? {
        let drawn = svgs(&figure.html())?.into_iter().chain(figure.svg());
        for svg in drawn {
            let is_xml = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
            assert!(is_balanced(&svg) && svg.chars().all(is_xml), "{name}: {svg}");
            let numbers = ["x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "d", "points", "transform"];
            for number in numbers.iter().flat_map(|of| attribute(&svg, of)) {
                assert!(!number.contains("NaN") && !number.contains("inf"), "{name}: {number}");
            }
            let width: f64 = attribute(&svg, "width")[0].parse().unwrap_or(f64::NAN);
            assert!(width <= 1100.0, "{name} is {width} pixels wide: a page of A4 has room for 1000");
        }
    }
    Ok(())
}

#[test]
fn who_cannot_see_is_told() -> Result<()> {
    for (name, figure) in all()? {
        let html = figure.html();
        let (pictures, told) = (html.matches("<img").count(), attribute(&html, "alt"));
        assert!(pictures == told.len() && told.iter().all(|words| !words.trim().is_empty()), "{name}: {told:?}");
        assert_eq!(html.matches("<table").count() > 0, html.contains("scope=\"col\""), "{name}: a table has headers");
        let orange = html.matches("background-color: #d55e00").count().saturating_sub(1); // one is the legend's
        assert!(html.matches("text-decoration: underline").count() >= orange, "{name}: a sign by colour alone");
    }
    Ok(())
}

/// The columns of a list in a terminal begin and end at the same place in every row: here the one before `mark`.
fn ends_alike(name: &str, text: &str, mark: impl Fn(&str) -> Option<usize>) {
    let ends: Vec<usize> = text.lines().skip(1).filter_map(|line| Some(line[..mark(line)?].width())).collect();
    assert!(!ends.is_empty() && ends.iter().all(|end| *end == ends[0]), "{name}: {ends:?}\n{text}");
}

#[test]
fn columns_are_aligned_in_a_terminal() -> Result<()> {
    for (text, words, has_special) in HARD {
        let why = over_tokens(words, has_special, (0..words.len()).map(|i| 1.0 - i as f64).collect())?;
        let last = |line: &str| Some(line.len());
        let body = |text: String| {
            text.lines()
                .filter(|line| !line.contains("Σ scores") && !line.is_empty())
                .map(|line| format!("{line}\n"))
                .collect::<String>()
        };
        let compared = Comparison::new(&[("eins", &why), ("二つ目", &why.clone().named("other"))])?.text();
        ends_alike(text, &body(compared), last);
        ends_alike(text, &why.table().text(), |line| line.find(" ["));
        ends_alike(text, &why.text(), |line| line.find(['█', '░']));
        ends_alike(text, &why.bars().text(), |line| line.find(['█', '░']));
        let matrix = Matrix::new(&with_outputs(&why, 2))?.text();
        let matrix = body(matrix.split("\n\n").next().unwrap_or_default().to_string());
        ends_alike(text, &matrix, last);
    }
    Ok(())
}

#[test]
fn a_comparison_of_sentences_is_a_table_in_a_terminal() -> Result<()> {
    let why = parted("It is old. 它是红色的。", &["It is old.", "它是红色的。"], &[0.5, -1.0])?;
    let other = Attribution { method: "ablation".into(), scores: vec![2.0, 0.0], ..why.clone() };
    let text = Comparison::new(&[("cited", &why), ("left out", &other)])?.text();
    assert_eq!(
        text,
        "f(x)\n              cited left out\n  It is old. +0.500   +2.000\n它是红色的。 −1.000        0\n\
         Σ scores: cited −0.5000; left out +2.000; their methods promise no sum"
    );
    Ok(())
}

#[test]
fn a_text_runs_in_its_own_direction() -> Result<()> {
    let arabic = over_tokens(HARD[1].1, true, vec![1.0; 9])?;
    let html = arabic.html();
    assert!(
        html.contains("<div dir=\"auto\"") && html.matches("<bdi title=").count() == 2,
        "[CLS] does not say which way: {html}"
    );
    assert!(arabic.table().html().contains("<div dir=\"auto\""));
    assert!(Comparison::new(&[("one", &arabic)])?.html().contains("<bdi>\u{2068}أحببت\u{2069}</bdi>"));
    let bars = arabic.bars();
    assert!(bars.svg().is_some_and(|svg| svg.contains(">\u{2068}أحببت\u{2069}<")), "a label turns nothing around");
    let paragraphs = parted("One.\n- הוא אדום.\n", &["One.", "הוא אדום."], &[1.0, 2.0])?.html();
    assert_eq!(paragraphs.matches("<div dir=\"auto\">").count(), 2, "each its own: {paragraphs}");
    assert!(!over_tokens(HARD[6].1, false, vec![1.0; 5])?.html().contains('\u{202e}'), "and neither does a token");
    Ok(())
}

#[test]
fn what_cannot_be_seen_has_a_sign() -> Result<()> {
    let words = HARD[5].1;
    let seen = read(&over_tokens(words, false, vec![1.0; words.len()])?.html());
    for sign in ["<0xE4>", "␣ ", "␣␣␣", "↵↵", "⇥", "⟨U+000D⟩↵", "a↵b", "⟨U+0000⟩", "⟨U+0007⟩", "⟨U+001B⟩[31m"]
    {
        assert!(seen.contains(sign), "{sign} in {seen}");
    }
    let emoji = read(&over_tokens(HARD[4].1, false, vec![1.0; 9])?.html());
    assert!(
        emoji.contains("👩\u{200d}👩\u{200d}👧") && emoji.contains("⟨U+200D⟩") && emoji.contains("⟨U+0301⟩"),
        "{emoji}"
    );
    Ok(())
}

/// All texts in a chart of plotly.
fn texts(chart: &Value) -> Vec<&str> {
    match chart {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().flat_map(texts).collect(),
        Value::Object(all) => all.values().flat_map(texts).collect(),
        _ => vec![],
    }
}

#[test]
fn plotly_is_given_no_markup_and_no_formulas() -> Result<()> {
    for (name, figure) in all()? {
        let chart: Value = figure.plotly().map_or(Ok(Value::Null), |chart| serde_json::from_str(&chart))?;
        assert!(!texts(&chart).iter().any(|text| text.contains(['<', '$'])), "{name}: {chart}");
    }
    let bars = ["<s>", "a&b", "&lt;", "$x$"].map(|name| (name.to_string(), 1.0));
    let chart: Value = serde_json::from_str(&Chart::bars("", "", bars.to_vec()).plotly().unwrap_or_default())?;
    let ticks = json!(["&lt;s>", "a&amp;b", "&amp;lt;", "&#36;x&#36;"]);
    assert_eq!(chart["layout"]["yaxis"]["ticktext"], ticks, "with the signs that plotly reads them by");
    Ok(())
}

#[test]
fn long_texts_and_large_matrices_stay_small() -> Result<()> {
    let words: Vec<String> = (0..2000).map(|i| format!(" word{i}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let score = |i: usize| (i as f64 * 0.7).sin();
    let why = over_tokens(&words, false, (0..2000).map(score).collect())?.named("f(x)");
    assert!(why.html().len() < 200 * 2000, "{} bytes", why.html().len());
    for (figure, row) in [(why.table().html(), 1600), (Comparison::new(&[("one", &why)])?.html(), 500)] {
        assert!(figure.len() < row * 200 + 4000 && figure.contains("1800 more"), "{} bytes", figure.len());
    }
    assert!(why.bars().html().len() < 500 * 200 + 4000, "{} bytes", why.bars().html().len());
    assert!(svgs(&why.bars().html())?[0].contains("… and 1800 more"));
    assert!(why.text().lines().count() < 210 && why.bars().text().contains("… and 1800 more"));
    let large = over_tokens(&words[..200], false, (0..200).map(score).collect())?;
    let matrix = Matrix::new(&with_outputs(&large, 60))?;
    assert!(matrix.html().len() < 250_000, "{} bytes", matrix.html().len());
    assert!(matrix.html().contains("marked −") && matrix.svg().is_some_and(|svg| svg.contains("stroke=\"#000000\"")));
    let long = "a".repeat(5000);
    let why = over_tokens(&[&long], false, vec![1.0])?.named("f(x)");
    assert!(why.html().contains("overflow-wrap: break-word") && why.text().lines().all(|line| line.width() < 120));
    Ok(())
}

#[test]
fn a_table_too_wide_for_a_page_goes_on_below() -> Result<()> {
    use pellucid::faithfulness::{Leaderboard, Row};
    let why = over_tokens(&["a", "b"], false, vec![1.0, -1.0])?;
    let compared =
        Comparison::new(&["one", "two", "three", "four", "five", "six", "seven"].map(|title| (title, &why)))?.html();
    let row = (0..7).fold(Row::of("method"), |row, i| row.score(&format!("metric {i}"), f64::from(i)));
    let board = Leaderboard::new(vec![vec![row]])?.html();
    for (html, name) in [(compared, "<bdi>a</bdi>"), (board, "<bdi>method</bdi>")] {
        assert_eq!((html.matches("<table").count(), html.matches(name).count()), (2, 2), "{html}");
        assert_eq!(html.matches("scope=\"col\"").count() - html.matches(">method</th>").count(), 7, "{html}");
    }
    Ok(())
}

#[test]
fn numbers_that_are_none_are_refused_or_said() -> Result<()> {
    for none in [f64::NAN, f64::INFINITY] {
        let why = over_tokens(&["a", "b", "c"], false, vec![1.0, none, -1.0])?;
        let refused = |e: Error| e.to_string().contains("a score");
        assert!(
            Comparison::new(&[("one", &why)]).is_err_and(refused)
                && Matrix::new(&with_outputs(&why, 2)).is_err_and(refused)
        );
        assert!(why.words().is_err_and(refused));
        let text = Bert::load(super::MODEL)?.read("film")?;
        let attention = [Tensor::full(none, (1, 1, text.len(), text.len()), &Device::Cpu)?];
        let refused = |e: Error| e.to_string().contains("a weight of attention");
        assert!(Heatmap::new(&attention, 0, 0, &text).is_err_and(refused));
        assert!(HeadGrid::new(&attention, &text).is_err_and(refused));
        let said = if none.is_nan() { "NaN" } else { "+inf" };
        for figure in [why.html(), why.table().html(), why.text(), why.table().text(), why.bars().text()] {
            assert!(figure.contains(said), "{figure}");
        }
        assert!(!why.html().contains(&format!("title=\"b {said}\" style=\"background")), "it has no colour");
        assert!(
            svgs(&(why.bars().html() + &why.table().html()))?
                .iter()
                .all(|svg| !svg.contains("=\"NaN") && !svg.contains("=\"inf"))
        );
    }
    Ok(())
}

/// The contrast of two colours, from 1 to 21 (WCAG 2.2).
fn contrast(one: &str, other: &str) -> f64 {
    let part =
        |colour: &str, i: usize| f64::from(u8::from_str_radix(&colour[1 + 2 * i..3 + 2 * i], 16).unwrap_or(0)) / 255.0;
    let linear = |x: f64| if x <= 0.04045 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) };
    let light = |colour: &str| {
        [0.2126, 0.7152, 0.0722].iter().enumerate().map(|(i, w)| w * linear(part(colour, i))).sum::<f64>() + 0.05
    };
    light(one).max(light(other)) / light(one).min(light(other))
}

#[test]
fn letters_can_be_read_on_every_colour() -> Result<()> {
    let words = vec!["word"; 81];
    let html = over_tokens(&words, false, (-40..=40).map(|i| f64::from(i) / 40.0).collect())?.html();
    let colours = html.split("background-color: ").skip(2).filter_map(|rest| rest.split_once("; color: "));
    let mut read = 0;
    for (ground, ink) in colours.map(|(ground, rest)| (ground, &rest[..7])).filter(|(ground, _)| ground.len() == 7) {
        assert!(contrast(ground, ink) >= 4.5, "{ink} on {ground}: {}", contrast(ground, ink));
        read += 1;
    }
    assert!(read > 70, "{read}");
    for grey in ["#6e6e6e", "#444444", "#222222"] {
        assert!(contrast(grey, "#ffffff") >= 4.5);
    }
    Ok(())
}

#[test]
fn a_convergence_says_once_what_it_cannot_draw() -> Result<()> {
    let x = Tensor::new(&[1f64, 2.0], &Device::Cpu)?;
    let linear = |x: &Tensor| Ok(x.sum(1)?);
    let text = convergence(linear, &x, &x.zeros_like()?, &[Quadrature::Middle, Quadrature::Left], &[2, 4])?.text();
    assert!(text.ends_with("; exactly 0, so not drawn: middle at 2, 4; left at 2, 4"), "{text}");
    Ok(())
}

#[test]
fn a_gallery_says_each_thing_once() -> Result<()> {
    let overlay = Overlay::new(&blank(60, 40)?, &signed_map(4, 6)?)?;
    let masks =
        Gallery::grid(&["a", "b"], &["0.2", "0.5"], |_, column| overlay.clone().mask([0.2, 0.5][column]))?.html();
    assert_eq!(masks.matches("of the way from the lowest").count(), 2, "{masks}");
    assert!(
        masks.contains("a, 0.2 · b, 0.2: red") && masks.contains(">Σ scores −12.00; gradient × input promises no sum<"),
        "{masks}"
    );
    let map = signed_map(4, 6)?;
    let methods = ["grad-CAM", "rollout", "LIME"].map(|method| Attribution { method: method.into(), ..map.clone() });
    let row: Gallery = methods
        .iter()
        .map(|why| Ok((why.method.clone(), Overlay::new(&blank(60, 40)?, why)?)))
        .collect::<Result<_>>()?;
    let html = row.html();
    assert_eq!((html.matches("Σ scores").count(), html.matches("promise").count()), (1, 1), "{html}");
    assert_eq!(html.matches("blue supports the target").count(), 1);
    Ok(())
}
