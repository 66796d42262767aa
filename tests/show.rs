//! Figures: safe to open anywhere, complete without a network, and readable as text.

use pellucid::prelude::*;

const MODEL: &str = "pellucid/tiny-bert-sentiment";

fn explain(sentence: &str) -> Result<(Bert, Text, Attribution)> {
    let bert = Bert::load(MODEL)?;
    let text = bert.read(sentence)?;
    let f = |x: &Tensor| Target::Logit(1).of(&bert.logits(&text, x)?);
    let baseline = bert.baseline(&text, &Baseline::token("[MASK]"))?;
    let ig = integrated_gradients(f, &bert.embed(&text)?, &baseline, &Steps::gauss_legendre(20))?;
    let why = ig.over(&text)?.named(Target::Logit(1).describe(&bert.labels()));
    Ok((bert, text, why))
}

/// Every kind of figure.
fn figures() -> Result<Vec<(&'static str, Box<dyn Show>)>> {
    let (bert, text, why) = explain("I absolutely <b>loved</b> the movie & \"all\"!")?;
    let patterns = bert.attention(&text)?;
    let square = |x: &Tensor| Ok(x.sqr()?.sum(1)?);
    let (x, zero) = (Tensor::new(&[1f64, 2.0], &Device::Cpu)?, Tensor::zeros(2, DType::F64, &Device::Cpu)?);
    Ok(vec![
        ("strip", Box::new(HeatStrip::new(&why))),
        ("strip with special tokens", Box::new(HeatStrip::new(&why).with_special())),
        ("words", Box::new(why.words()?)),
        ("bars", Box::new(why.bars())),
        ("heatmap", Box::new(Heatmap::new(&patterns, 0, 0, &text)?)),
        ("head grid", Box::new(HeadGrid::new(&patterns, &text)?)),
        ("comparison", Box::new(Comparison::new(&[("one", &why), ("two", &why)])?)),
        ("elements", Box::new(integrated_gradients(square, &x, &zero, &Steps::default())?)),
        ("convergence", Box::new(convergence(square, &x, &zero, &Quadrature::ALL, &[2, 4, 8])?)),
    ])
}

#[test]
fn nothing_runs_nothing_is_fetched_everything_is_escaped() -> Result<()> {
    for (name, figure) in figures()? {
        let html = figure.html();
        for forbidden in ["<script", "<b>loved", "http://", "https://", "onload", "<svg"] {
            assert!(!html.contains(forbidden), "{name} contains {forbidden}");
        }
        assert!(!figure.text().is_empty(), "{name} has no text");
    }
    Ok(())
}

#[test]
fn pictures_are_whole_documents_and_charts_whole_charts() -> Result<()> {
    for (name, figure) in figures()? {
        if let Some(svg) = figure.svg() {
            assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>"), "{name}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
        }
        if let Some(chart) = figure.plotly() {
            let chart: serde_json::Value = serde_json::from_str(&chart)?;
            assert!(chart["data"].as_array().is_some_and(|traces| !traces.is_empty()), "{name}");
            assert!(chart["layout"].is_object(), "{name}");
        }
    }
    Ok(())
}

#[test]
fn the_text_twin_is_a_picture_too() -> Result<()> {
    let (_, _, why) = explain("I loved the movie!")?;
    let text = why.words()?.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "integrated gradients, logit of `positive`");
    assert!(lines[3].split_whitespace().next() == Some("loved") && lines[3].contains('+'), "{text}");
    assert!(lines[3].ends_with('█'), "{text}");
    assert!(lines.last().is_some_and(|law| law.starts_with("completeness: promised f(x) − f(x′) = +")), "{text}");
    Ok(())
}

#[test]
fn every_figure_names_its_law_and_the_scale() -> Result<()> {
    let (_, _, why) = explain("I did not love the movie.")?;
    let html = why.html();
    assert!(html.contains("completeness: promised") && html.contains("against") && html.contains("supports"));
    assert!(html.contains("text-decoration: underline"));
    Ok(())
}

#[test]
fn sums_survive_words_and_json() -> Result<()> {
    let (_, text, why) = explain("An unforgettable, heartwarming masterpiece?")?;
    let words = why.words()?;
    assert!(words.scores.len() < why.scores.len());
    assert!((words.sum() - why.sum()).abs() < 1e-9);
    assert!(words.tokens().iter().any(|word| word.text == "unforgettable"));
    assert_eq!(Attribution::from_json(&why.to_json()?)?, why);
    assert_eq!(Attribution::from_json(&words.to_json()?)?, words);
    assert!(words.words()? == words && why.clone().over(&text).is_err());
    let short = Attribution { scores: vec![1.0], ..why };
    assert!(short.words().is_err() && Attribution::from_json(&short.to_json()?).is_err());
    Ok(())
}

#[test]
fn figures_are_saved_by_their_ending() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_, _, why) = explain("A good film.")?;
    why.save(folder.path().join("why.json"))?;
    assert_eq!(Attribution::from_json(&std::fs::read_to_string(folder.path().join("why.json"))?)?, why);
    for name in ["bars.html", "bars.svg", "bars.txt", "bars.json"] {
        why.bars().save(folder.path().join(name))?;
        assert!(std::fs::metadata(folder.path().join(name))?.len() > 50);
    }
    assert!(why.save(folder.path().join("strip.png")).is_err_and(|e| e.to_string().contains("saved as .html")));
    Ok(())
}

#[test]
fn charts_of_nothing_and_of_extremes_are_drawn() -> Result<()> {
    let flat = |value: f64| vec![Series { name: "flat".into(), points: vec![(1.0, value), (2.0, value)] }];
    for series in [vec![], flat(0.0), flat(f64::NAN), flat(1e300), flat(-1e-300)] {
        for chart in
            [Chart::curves("", "x", "y", series.clone()), Chart::curves("", "x", "y", series.clone()).log_log()]
        {
            assert!(chart.svg().is_some_and(|svg| !svg.contains("NaN") && !svg.contains("inf")));
        }
    }
    let bars = Chart::bars("", "x", vec![("a".into(), 0.0), ("b".into(), 2e-5)]);
    assert!(bars.svg().is_some_and(|svg| svg.contains("e−5")), "small scores have an axis of zeros");
    Ok(())
}

#[test]
fn mismatched_figures_are_refused() -> Result<()> {
    let (bert, _, why) = explain("A good film.")?;
    let other = bert.read("A bad and long one.")?;
    let patterns = bert.attention(&other)?;
    let text = bert.read("A good film.")?;
    assert!(HeadGrid::new(&patterns, &text).is_err_and(|e| e.to_string().contains("(1, h, 6, 6)")));
    assert!(Heatmap::new(&patterns, 0, 9, &other).is_err_and(|e| e.to_string().contains("head 9 is out of range")));
    assert!(Comparison::new(&[]).is_err());
    let words = why.words()?;
    let (_, _, longer) = explain("A very good film.")?;
    assert!(
        Comparison::new(&[("words", &words), ("tokens", &longer)])
            .is_err_and(|e| e.to_string().contains("other features"))
    );
    Ok(())
}
