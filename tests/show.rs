//! Figures: safe to open anywhere, complete without a network, and readable as text.

#[path = "show/hard.rs"]
mod hard;

use pellucid::prelude::*;

use pellucid::zoo::photo;

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
        ("picture", Box::new(photo("cat")?)),
        ("overlay", Box::new(edges(&photo("cat")?)?)),
        ("map", Box::new(signed_map(4, 6)?.patches(2)?)),
        ("mask", Box::new(edges(&photo("rocket")?)?.mask(0.2)?)),
        ("contours", Box::new(Overlay::new(&blank(60, 40)?, &signed_map(4, 6)?)?.contours(&[-0.5, 0.5])?)),
        ("gallery", Box::new(Gallery::row(&[("<b>loved</b>", &photo("cat")?), ("edges", &edges(&photo("cat")?)?)])?)),
        ("running text", Box::new(spans(&why)?)),
        ("table", Box::new(why.words()?.table().first(3))),
        ("table of parts", Box::new(spans(&why)?.table().between(&[-1.0, 0.0], &[1.0, 2.0])?)),
        ("table of patches", Box::new(signed_map(4, 6)?.table())),
        ("scatter", Box::new(Chart::scatter("<b>loved", "x", "y", cloud()).diagonal())),
        ("convergence", Box::new(convergence(square, &x, &zero, &Quadrature::ALL, &[2, 4, 8])?)),
    ])
}

/// The same text in two parts, with what lies between and around them.
fn spans(why: &Attribution) -> Result<Attribution> {
    let text = "I absolutely <b>loved</b> the movie & \"all\"!";
    parted(text, &["<b>loved</b>", "& \"all\""], &[0.5, -0.25]).map(|parted| parted.named(&why.target))
}

/// Scores of parts of a text.
fn parted(text: &str, parts: &[&str], scores: &[f64]) -> Result<Attribution> {
    let elements = gradient_x_input(|x| Ok(x.sum(1)?), &Tensor::new(scores, &Device::Cpu)?)?;
    let mut from = 0;
    let part = |part: &&str| {
        let start = text[from..].find(part).map_or(text.len(), |at| from + at);
        from = start + part.len();
        Token { text: part.to_string(), id: 0, start, end: from, word: None, special: false }
    };
    let features = Features::Spans { text: text.into(), tokens: parts.iter().map(part).collect() };
    Ok(Attribution { features, ..elements })
}

/// Points in no order, and one that cannot be drawn.
fn cloud() -> Vec<Series> {
    let points = vec![(2.0, 1.0), (-3.0, -1.5), (0.5, 0.0), (f64::NAN, 1.0)];
    vec![Series { name: "masks".into(), points }, Series { name: "none".into(), points: vec![] }]
}

fn blank(width: usize, height: usize) -> Result<Image> {
    Image::from_pixels(&Tensor::full(0.5f32, (3, height, width), &Device::Cpu)?)
}

/// Scores over the pixels of a picture: how far each is from what stands around it. Unsigned, with a name to escape.
fn edges(picture: &Image) -> Result<Overlay> {
    let x = picture.pixels()?;
    let around = pellucid::baseline::blurred(&x, 3.0)?;
    let why = gradient_x_input(|d| Ok(d.sqr()?.sum((1, 2, 3))?), &(x - around)?)?;
    Overlay::new(picture, &why.named("<b>loved"))
}

/// Scores from below zero to above it.
fn signed_map(height: usize, width: usize) -> Result<Attribution> {
    let ramp = Tensor::arange(0f64, (height * width) as f64, &Device::Cpu)?.reshape((1, height, width))?;
    let ramp = (ramp - (height * width / 2) as f64)?;
    gradient_x_input(|x| Ok(x.sum((1, 2, 3))?), &ramp)?.over_pixels()
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
            let drawn = svg.split("base64,").map(|part| part.split_once('"').map_or(part, |(_, after)| after));
            assert!(drawn.into_iter().all(|part| !part.contains("NaN") && !part.contains("inf")), "{name}");
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
fn numbers_have_four_digits_after_rounding_too() -> Result<()> {
    for (score, written) in [(0.99996, "+1.000"), (9.9996, "+10.00"), (0.9999, "+0.9999"), (-0.099996, "−0.1000")] {
        let text = parted("red", &["red"], &[score])?.text();
        assert!(text.contains(&format!("{written} ")) && text.contains(&format!("Σ scores {written};")), "{text}");
    }
    Ok(())
}

#[test]
fn a_gradient_that_does_not_add_up_is_told_the_remedy() -> Result<()> {
    let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    let prompt = llm.read("The capital of France is")?;
    let (x, paris) = (llm.embed(&prompt)?.unsqueeze(0)?, Target::Logit(812));
    let strip = |rules: Rules| -> Result<String> {
        let model = llm.under(rules);
        let why = layer_gradients(|hook| paris.of(&model.next_logits_hooked(&x, hook)?), llm.layers())?;
        Ok(full_grad(&why)?.over(&prompt)?.text())
    };
    assert!(strip(Rules::exact())?.contains("walk back under Rules::libragrad()"));
    assert!(!strip(Rules::libragrad())?.contains("walk back"));
    assert!(strip(Rules::libragrad())?.contains("promised f(x) = "));
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
    let hollow = Features::Elements { shape: vec![text.len(), 0] };
    let hollow = Attribution { scores: vec![], features: hollow, ..why.clone() };
    assert!(
        Attribution::from_json(&hollow.to_json()?)?
            .over(&text)
            .is_err_and(|e| e.to_string().contains("none of them empty"))
    );
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
    let overlay = edges(&photo("cat")?)?;
    for name in ["over.html", "over.svg", "over.txt", "over.json", "over.png"] {
        overlay.save(folder.path().join(name))?;
    }
    let written = Image::open(folder.path().join("over.png"))?;
    assert_eq!((written.width(), written.height()), (451, 300));
    let scores = Attribution::from_json(&std::fs::read_to_string(folder.path().join("over.json"))?)?;
    assert_eq!(scores.features, Features::Pixels { height: 300, width: 451 });
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

#[test]
fn scores_of_tokens_and_of_patches_become_maps() -> Result<()> {
    let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    let (patches, ahead) = (vit.patches(), vit.patches().ahead());
    let of = |count: usize| {
        let (x, drawn) = (Tensor::arange(1.0, count as f64 + 1.0, &Device::Cpu)?, Permutations::new(1, 7));
        shapley_sampling(|x| Ok(x.sum(1)?), &x, &x.zeros_like()?, &Groups::elements(&x), &drawn)
    };
    let (each, all) = (of(patches.count())?, of(ahead + patches.count())?);
    let (whole, part) = (each.clone().over_patches(patches)?, all.clone().over_patches(patches)?);
    assert_eq!(
        (whole.completeness, &whole.scores, whole.tensor()?.dims()),
        (each.completeness, &each.scores, &patches.grid()[..])
    );
    assert_eq!((part.completeness, &part.scores[..], part.seed), (None, &all.scores[ahead..], Some(7)));
    let text = Overlay::new(&blank(64, 64)?, &part)?.text();
    assert!(
        text.contains("over the patches only: the rest is left out") && part.settings["permutations"] == "1",
        "{text}"
    );
    let x = Tensor::arange(1.0, (ahead + patches.count()) as f64 + 1.0, &Device::Cpu)?;
    let other = gradient_x_input(|x| Ok((x.sum(1)? * 2.0)?), &x)?.over_patches(patches)?;
    let (one, other) = (Overlay::new(&blank(64, 64)?, &part)?, Overlay::new(&blank(64, 64)?, &other)?);
    let both = Gallery::row(&[("one", &one), ("other", &other)])?.text();
    assert_eq!(both.matches("the rest is left out").count(), 1, "{both}");
    assert!(of(3)?.over_patches(patches).is_err_and(|error| error.to_string().contains("one per patch")));
    assert!(whole.over_patches(patches).is_err_and(|error| error.to_string().contains("already")));
    Ok(())
}

#[test]
fn scores_over_pictures_keep_their_sums_and_their_json() -> Result<()> {
    let pixels = signed_map(4, 6)?;
    let patches = pixels.patches(2)?;
    assert_eq!(patches.features, Features::Patches { rows: 2, columns: 3 });
    assert_eq!(patches.tensor()?.dims(), [2, 3]);
    assert_eq!(patches.scores[0], [0.0, 1.0, 6.0, 7.0].iter().map(|x| x - 12.0).sum::<f64>());
    assert_eq!(patches.sum(), pixels.sum());
    for scores in [&pixels, &patches] {
        assert_eq!(&Attribution::from_json(&scores.to_json()?)?, scores);
        assert!(Attribution::from_json(&Attribution { scores: vec![1.0], ..scores.clone() }.to_json()?).is_err());
        assert!((scores.agreement(scores)? - 1.0).abs() < 1e-12);
        assert!(scores.words().is_err() && scores.clone().over_pixels().is_err());
        assert!(Comparison::new(&[("one", scores)]).is_err_and(|e| e.to_string().contains("Gallery")));
    }
    assert!(pixels.agreement(&patches).is_err_and(|e| e.to_string().contains("patches with patches")));
    assert!(pixels.patches(4).is_err_and(|e| e.to_string().contains("do not divide")));
    assert!(patches.patches(1).is_err_and(|e| e.to_string().contains("over_pixels")));
    assert_eq!(pixels.top(1)[0].0, "pixel in row 0, column 0");
    Ok(())
}

#[test]
fn several_outputs_are_summed_over_pixels_too() -> Result<()> {
    let x = Tensor::ones((3, 2, 2), DType::F64, &Device::Cpu)?;
    let both = |x: &Tensor| Ok(Tensor::stack(&[x.sum((1, 2, 3))?, (x.narrow(1, 0, 1)?.sum((1, 2, 3))? * 5.0)?], 1)?);
    let patches = gradient_x_input(both, &x)?.over_pixels()?.patches(2)?;
    assert_eq!((patches.outputs[0].scores[0], patches.outputs[1].scores[0], patches.scores[0]), (12.0, 20.0, 32.0));
    Ok(())
}

#[test]
fn an_overlay_shows_where_and_with_which_sign() -> Result<()> {
    let overlay = Overlay::new(&blank(60, 40)?, &signed_map(4, 6)?)?;
    let picture = Image::decode(&overlay.png().unwrap_or_default())?.pixels()?;
    let colour = |x: usize, y: usize| picture.narrow(1, y, 1)?.narrow(2, x, 1)?.flatten_all()?.to_vec1::<f32>();
    let (against, supports) = (colour(1, 1)?, colour(58, 38)?);
    assert!(against[0] > against[2] + 0.3 && supports[2] > supports[0] + 0.3, "{against:?}, {supports:?}");
    let minuses = |figure: &Overlay| figure.svg().unwrap_or_default().matches("h5.0").count();
    assert_eq!(
        (minuses(&overlay), minuses(&edges(&photo("cat")?)?)),
        (11, 0),
        "two rows of six, but for what is nearly 0"
    );
    let text = overlay.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].starts_with("−█") && lines[4].ends_with("██") && !lines[4].contains('−'), "{text}");
    assert!(overlay.html().contains("blue supports the target, orange and marked − speaks against it"));
    assert!(lines.last().is_some_and(|law| law.contains("gradient × input promises no sum")), "{text}");
    Ok(())
}

#[test]
fn full_colour_is_a_quantile_and_says_so() -> Result<()> {
    let mut scores = vec![1.0f64; 400];
    scores[7] = 1000.0;
    let map = Tensor::from_vec(scores, (20, 20), &Device::Cpu)?;
    let overlay = Overlay::new(&blank(40, 40)?, &Attribution::of_patches("attention rollout", &map)?)?;
    let legend = overlay.html();
    assert!(
        legend.contains("full colour from |score| 1.000 on, which 99 % do not exceed (the largest: 1000)"),
        "{legend}"
    );
    assert!(legend.contains("the deeper the purple") && legend.contains("attention rollout promises no sum"));
    for lonely in [0.0, 3.0] {
        let mut scores = vec![0.0f64; 400];
        scores[3] = lonely;
        let map = Tensor::from_vec(scores, (20, 20), &Device::Cpu)?;
        let text = Overlay::new(&blank(40, 40)?, &Attribution::of_patches("rollout", &map)?)?.text();
        assert!(
            text.contains(if lonely == 0.0 { "all scores are 0" } else { "full colour at |score| 3.000" }),
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn nothing_is_stretched() -> Result<()> {
    let patches = |rows: usize, columns: usize| {
        Attribution::of_patches("rollout", &Tensor::ones((rows, columns), DType::F32, &Device::Cpu)?)
    };
    for (width, height, rows, columns) in [(450, 300, 2, 3), (451, 300, 11, 16), (1, 1, 1, 1), (3000, 3, 1, 1000)] {
        let overlay = Overlay::new(&blank(width, height)?, &patches(rows, columns)?)?;
        assert!(overlay.svg().is_some(), "{width} × {height}");
    }
    for (width, height, rows, columns) in [(450, 300, 14, 14), (224, 224, 14, 16), (100, 300, 3, 1)] {
        let fits = Overlay::new(&blank(width, height)?, &patches(rows, columns)?);
        match fits {
            Ok(_) => assert_eq!((width, height), (100, 300)),
            Err(error) => assert!(error.to_string().contains("without being stretched"), "{error}"),
        }
    }
    let larger = Overlay::new(&blank(3, 2)?, &signed_map(40, 60)?)?;
    let drawn = Image::decode(&larger.png().unwrap_or_default())?;
    assert_eq!((drawn.width(), drawn.height()), (60, 40), "a small picture grows to the map");
    let (_, _, words) = explain("A good film.")?;
    assert!(Overlay::new(&blank(2, 2)?, &words).is_err_and(|e| e.to_string().contains("scores over a text")));
    Ok(())
}

#[test]
fn masks_and_contours_refuse_what_means_nothing() -> Result<()> {
    let overlay = Overlay::new(&blank(60, 40)?, &signed_map(4, 6)?)?;
    for threshold in [-0.1, 1.0, f64::NAN] {
        assert!(overlay.clone().mask(threshold).is_err_and(|e| e.to_string().contains("[0, 1)")));
    }
    for levels in [&[][..], &[1.5], &[f64::NAN]] {
        assert!(overlay.clone().contours(levels).is_err_and(|e| e.to_string().contains("between −1 and 1")));
    }
    Ok(())
}

#[test]
fn contours_are_lines_that_go_round_and_to_the_edge() -> Result<()> {
    let hill = |x: usize, y: usize| (-0.02 * ((x as f64 - 20.0).powi(2) + (y as f64 - 12.0).powi(2))).exp();
    let map: Vec<f64> = (0..24 * 40).map(|i| hill(i % 40, i / 40)).collect();
    let map = Attribution::of_patches("hill", &Tensor::from_vec(map, (24, 40), &Device::Cpu)?)?;
    let svg = Overlay::new(&blank(400, 240)?, &map)?.contours(&[0.5])?.svg().unwrap_or_default();
    let lines: Vec<Vec<(f64, f64)>> = svg.split("points=\"").skip(1).step_by(2).map(points).collect();
    assert_eq!(lines.len(), 1, "one hill, one line");
    let ring = &lines[0];
    assert_eq!(ring.first(), ring.last(), "it goes round");
    let radius = (2.0f64.ln() / 0.02).sqrt() * 8.0; // 320 / 40 pixels to a cell
    let (cx, cy) = (1.0 + 20.5 * 8.0, 1.0 + 12.5 * 8.0);
    assert!(ring.iter().all(|(x, y)| ((x - cx).hypot(y - cy) - radius).abs() < 2.0), "of the right radius");
    let slope = Overlay::new(&blank(60, 40)?, &signed_map(4, 6)?)?.contours(&[-0.5])?.svg().unwrap_or_default();
    assert!(slope.contains("stroke-dasharray=\"5 3\""), "negative lines are dashed");
    Ok(())
}

/// The points of a polyline.
fn points(svg: &str) -> Vec<(f64, f64)> {
    let number = |text: &str| text.parse().unwrap_or(f64::NAN);
    let list = svg.split('"').next().unwrap_or_default();
    list.split(' ').filter_map(|point| point.split_once(',')).map(|(x, y)| (number(x), number(y))).collect()
}

#[test]
fn galleries_hang_in_rows_and_grids() -> Result<()> {
    let overlay = Overlay::new(&blank(60, 40)?, &signed_map(4, 6)?)?;
    let weak = Attribution { scores: overlay_scores(0.01)?, ..signed_map(4, 6)? };
    let weak = Overlay::new(&blank(60, 40)?, &weak)?;
    let levels: Gallery = (0..12).map(|l| (format!("level {l}"), overlay.clone())).collect();
    let images = |gallery: &Gallery| gallery.svg().unwrap_or_default().matches("<image").count();
    assert_eq!(images(&levels), 12);
    let grid = Gallery::grid(&["mean", "max"], &["0 %", "50 %", "90 %"], |row, column| {
        overlay.clone().mask([0.1, 0.4][row] + 0.1 * column as f64)
    })?;
    let svg = grid.svg().unwrap_or_default();
    assert!(images(&grid) == 6 && svg.matches(">mean<").count() == 1 && svg.matches(">90 %<").count() == 1);
    assert!(grid.text().contains("max, 50 %"));
    let row = Gallery::row(&[("strong", &overlay), ("weak", &weak), ("map", &signed_map(4, 6)?)])?;
    assert!(
        row.html().contains("each has its own colour scale") && row.svg().is_some_and(|svg| svg.contains("±0.1200"))
    );
    let one = row.one_scale()?;
    assert!(one.html().contains("one colour scale for all") && one.svg().is_some_and(|svg| svg.contains("−12.00")));
    Ok(())
}

fn overlay_scores(factor: f64) -> Result<Vec<f64>> {
    Ok(signed_map(4, 6)?.scores.iter().map(|score| score * factor).collect())
}

#[test]
fn galleries_refuse_what_cannot_hang() -> Result<()> {
    let (_, _, why) = explain("A good film.")?;
    assert!(Gallery::row(&[]).is_err());
    assert!(Gallery::row(&[("words", &why)]).is_err_and(|e| e.to_string().contains("`words` is no picture")));
    assert!(Gallery::grid(&[], &["a"], |_, _| edges(&photo("cat")?)).is_err());
    assert!(
        Gallery::row(&[("cat", &photo("cat")?)])?.one_scale().is_err_and(|e| e.to_string().contains("no heat map"))
    );
    Ok(())
}

#[test]
fn pictures_stay_small_in_a_notebook() -> Result<()> {
    let cat = photo("cat")?;
    let html = cat.html();
    assert!(svgs(&html)?[0].contains("data:image/jpeg") && html.len() < 80_000, "{} bytes", html.len());
    let huge = Image::from_pixels(&resample(&cat.pixels()?, 1500, 2255, Interpolation::Bilinear)?)?;
    assert!(huge.html().len() < 80_000, "{} bytes", huge.html().len());
    assert!(edges(&cat)?.html().len() < 120_000, "{} bytes", edges(&cat)?.html().len());
    let tiny = &svgs(&blank(8, 8)?.html())?[0];
    assert!(tiny.contains("data:image/png") && tiny.contains("pixelated") && tiny.contains("width=\"320\""));
    Ok(())
}

/// What a reader sees of HTML, without its tags.
fn read(html: &str) -> String {
    let text: String = html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)).collect();
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

/// The same without the numbers behind the parts.
fn unnumbered(html: &str) -> String {
    let plain = html.split("\u{2060}<bdi").map(|piece| piece.split_once("</bdi>").map_or(piece, |(_, text)| text));
    read(&plain.collect::<String>())
}

const BRIDGE: &str =
    "The bridge\n\n  It is <b>red</b> & old.  Anna built it, they say.\n\n- הוא אדום מאוד.\n- 它是红色的。\n";

#[test]
fn parts_stand_in_the_text_as_it_is_written() -> Result<()> {
    for sources in [Sources::sentences(BRIDGE)?, Sources::words(BRIDGE)?, Sources::spans(BRIDGE, &["red", "built"])?] {
        let parts = sources.parts();
        let scores: Vec<f64> = (0..parts.len()).map(|i| i as f64 - 1.0).collect();
        let why = parted(BRIDGE, &parts.iter().map(String::as_str).collect::<Vec<_>>(), &scores)?;
        let html = HeatStrip::new(&why).html();
        assert!(unnumbered(&html).contains(BRIDGE), "{html}");
        assert!(html.contains("white-space: pre-wrap") && html.contains("dir=\"auto\""));
        assert!(html.contains("text-decoration: underline") && !html.contains("title="), "signs, and nothing to hover");
    }
    let mut misplaced = parted(BRIDGE, &["red", "old"], &[1.0, 1.0])?;
    let Features::Spans { tokens, .. } = &mut misplaced.features else { unreachable!("they are parts") };
    (tokens[0].start, tokens[1].end) = (999, 9999);
    assert!(read(&misplaced.html()).contains("red") && read(&misplaced.html()).contains("old"));
    assert!(parted("", &[], &[])?.html().contains("all scores are 0"));
    Ok(())
}

#[test]
fn numbers_stand_behind_the_parts_that_count() -> Result<()> {
    let numbers = |parts: usize, word: &str, score: fn(usize) -> f64| {
        let text: String = (0..parts).map(|i| format!("{word}{i}. ")).collect();
        let scores: Vec<f64> = (0..parts).map(score).collect();
        let parts: Vec<String> = (0..parts).map(|i| format!("{word}{i}.")).collect();
        let why = parted(&text, &parts.iter().map(String::as_str).collect::<Vec<_>>(), &scores)?;
        Ok::<_, Error>(why.html().matches("<bdi dir=\"ltr\"").count())
    };
    let one = |i: usize| if i == 1 { -1.0 } else { 0.04 };
    assert_eq!((numbers(12, "It is ", one)?, numbers(13, "It is ", one)?), (12, 1));
    assert_eq!((numbers(40, "it", |_| 1.0)?, numbers(41, "it", |_| 1.0)?), (40, 0), "many words have none");
    assert_eq!(numbers(2000, "It is ", |i| if i % 100 == 0 { 1.0 } else { 0.0 })?, 20);
    assert_eq!((numbers(12, "It is ", |_| 0.0)?, numbers(13, "It is ", |_| 0.0)?), (12, 0), "zeros do not count");
    Ok(())
}

#[test]
fn a_table_has_the_largest_first_and_sums_up_the_rest() -> Result<()> {
    let why = parted(BRIDGE, &["The bridge", "red", "old", "Anna"], &[0.25, -2.0, 1.0, 0.5])?;
    let table = why.table().first(2);
    let text = table.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].ends_with("░░░░░░░░░░░░░░░░░░░░ [1] red") && lines[1].contains("−2.000"), "{text}");
    assert!(lines[2].ends_with("██████████           [2] old"), "{text}");
    assert_eq!(lines[3], "… and 2 more, Σ +0.7500");
    assert!(lines[4].starts_with("Σ scores −0.2500; gradient × input promises no sum"), "{text}");
    let seen = read(&table.html());
    assert!(seen.contains("[1] red") && seen.contains("… and 2 more, Σ +0.7500") && !seen.contains("Anna"), "{seen}");
    assert!(table.html().contains("text-decoration: underline\">−2.000"));
    assert!(why.table().first(0).text().contains("… and 4, Σ −0.2500"));
    assert!(!why.table().first(9).text().contains("more"));
    assert_eq!(table.json(), Some(why.to_json()?));
    let long = "a".repeat(301);
    let cut = parted(&long, &[&long], &[0.0])?.table().html();
    assert!(cut.contains(&format!("{}…", "a".repeat(299))) && !cut.contains(&long));
    let many = vec![1.0; 2000];
    assert!(
        gradient_x_input(|x| Ok(x.sum(1)?), &Tensor::new(many, &Device::Cpu)?)?.table().text().contains("1800 more")
    );
    Ok(())
}

#[test]
fn special_tokens_stand_last_in_a_table() -> Result<()> {
    let (_, _, mut why) = explain("A good film.")?;
    why.scores[0] = 100.0;
    let text = why.table().text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[5].ends_with("[0] [CLS]") && lines[6].ends_with("[5] [SEP]"), "{text}");
    assert!(!lines[5].trim_start().starts_with('5') && lines[1].contains(&"█".repeat(20)), "{text}");
    assert_eq!(why.table().html().matches("color: #6e6e6e\"><td").count(), 2);
    Ok(())
}

#[test]
fn intervals_are_drawn_where_they_lie() -> Result<()> {
    let why = parted(BRIDGE, &["red", "old"], &[2.0, -1.0])?;
    let text = why.table().between(&[1.0, -4.0], &[3.0, -0.5])?.text();
    assert!(text.contains("+1.000\u{a0}to +3.000 ████") && text.contains("−4.000\u{a0}to −0.500 "), "{text}");
    let refused =
        |low: &[f64], high: &[f64]| why.table().between(low, high).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(refused(&[1.0], &[3.0, 0.0]).contains("(2,), one per feature"));
    assert!(refused(&[1.0, -2.0], &[3.0]).contains("the upper ends"));
    assert!(refused(&[1.0, f64::NAN], &[3.0, 0.0]).contains("an end of an interval"));
    assert!(refused(&[1.0, -2.0], &[3.0, -3.0]).contains("the lower ends come first"));
    let svgs = svgs(&why.table().between(&[1.0, -4.0], &[3.0, -0.5])?.html())?;
    assert!(svgs[0].contains(">−4.000<") && svgs[0].contains(">+3.000<"), "the axis reaches as far as the intervals");
    assert!(svgs[1].contains("M105.4 9H146.0") && svgs[2].contains("M4.0 9H75.0"), "{svgs:?}"); // 4 + 142·(x + 4)/7
    for extreme in [0.0, f64::MAX, f64::MIN_POSITIVE] {
        let html = parted(BRIDGE, &["red", "old"], &[extreme, -extreme])?.table().html();
        assert!(self::svgs(&html)?.iter().all(|svg| !svg.contains("NaN") && !svg.contains("inf")), "{extreme}");
    }
    Ok(())
}

/// The drawings in HTML.
fn svgs(html: &str) -> Result<Vec<String>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let drawn = html.split("svg+xml;base64,").skip(1).filter_map(|rest| rest.split('"').next());
    let decoded = drawn.map(|code| STANDARD.decode(code).map(|svg| String::from_utf8_lossy(&svg).into_owned()));
    decoded.collect::<std::result::Result<_, _>>().map_err(|error| Error::Argument(error.to_string()))
}

#[test]
fn points_are_circles_and_the_diagonal_a_line_from_corner_to_corner() -> Result<()> {
    let scatter = Chart::scatter("", "actual", "predicted", cloud());
    let svg = |chart: &Chart| chart.svg().unwrap_or_default();
    assert_eq!(svg(&scatter).matches("<circle").count(), 3 + 2, "the points that can be drawn, and the legend");
    assert!(!svg(&scatter).contains("<polyline") && !svg(&scatter).contains("y = x"));
    let diagonal = scatter.clone().diagonal();
    assert!(svg(&diagonal).contains("y1=\"322\" y2=\"12\" stroke=\"#888888\"") && svg(&diagonal).contains(">y = x<"));
    let plotly: serde_json::Value = serde_json::from_str(&diagonal.plotly().unwrap_or_default())?;
    assert_eq!(plotly["data"][0]["mode"], "markers");
    assert_eq!(plotly["data"][0]["x"], serde_json::json!([2.0, -3.0, 0.5]));
    assert_eq!(
        (&plotly["data"][2]["x"], &plotly["data"][2]["y"]),
        (&serde_json::json!([-3.0, 2.0]), &serde_json::json!([-3.0, 2.0]))
    );
    assert!(
        scatter.text().contains("3 points, x from −3 to 2, y from −1.5 to 1, rank correlation 1\n"),
        "{}",
        scatter.text()
    );
    assert!(scatter.text().contains("none  0 points\n"));
    for chart in [Chart::scatter("", "", "", vec![]), scatter.clone().log_log(), Chart::curves("", "x", "y", cloud())] {
        assert!(!svg(&chart.diagonal()).contains("NaN"));
    }
    Ok(())
}

#[test]
fn a_surrogate_says_how_well_it_ranks_what_it_has_not_seen() -> Result<()> {
    let why = parted(BRIDGE, &["red"], &[1.0])?;
    let law = |correlation: &str| {
        let settings = [("held-out rank correlation".to_string(), correlation.to_string())].into();
        Attribution { settings, ..why.clone() }.text().lines().last().unwrap_or_default().to_string()
    };
    let plain = "Σ scores +1.000; gradient × input promises no sum";
    let ranked = |r: &str| format!("{plain}; masks it was not fitted to are ranked with correlation {r}");
    assert_eq!((why.text().lines().last(), law("0.834")), (Some(plain), ranked("0.83")));
    let warning = " — do not believe these scores: cite a shorter span, draw more masks, or take coarser sources";
    assert_eq!(law("0.5"), ranked("0.50"));
    assert_eq!((law("0.49"), law("-0.2")), (ranked("0.49") + warning, ranked("−0.20") + warning));
    Ok(())
}
