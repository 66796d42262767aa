//! Loading: the spellings and formats that real checkpoints come in, and what is said when one is broken.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use pellucid::candle_core::safetensors::{load, save};
use pellucid::prelude::*;

const SENTENCE: &str = "I absolutely loved the movie!";

/// The embedded model's folder in the source tree.
fn original() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/zoo/tiny-bert-sentiment")
}

/// A copy of the model's folder that a test may change.
fn copy() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"] {
        fs::copy(original().join(name), folder.path().join(name))?;
    }
    Ok(folder)
}

fn open(folder: &Path) -> Result<Bert> {
    Bert::load(&folder.to_string_lossy())
}

fn logits(bert: &Bert) -> Result<Vec<f32>> {
    let text = bert.read(SENTENCE)?;
    Ok(bert.logits(&text, &bert.embed(&text)?.unsqueeze(0)?)?.flatten_all()?.to_vec1()?)
}

fn weights(folder: &Path) -> Result<HashMap<String, Tensor>> {
    Ok(load(folder.join("model.safetensors"), &Device::Cpu)?)
}

fn refusal(folder: &Path) -> String {
    open(folder).map_or_else(|error| error.to_string(), |bert| format!("no error: {bert:?}"))
}

#[test]
fn other_spellings_give_the_same_model() -> Result<()> {
    let expected = logits(&Bert::load("pellucid/tiny-bert-sentiment")?)?;
    let renamers: [fn(&str) -> String; 3] = [
        |name| name.replace("bert.", ""),
        |name| name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
        |name| {
            name.replace("bert.", "")
                .replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta")
        },
    ];
    for rename in renamers {
        let folder = copy()?;
        let renamed: HashMap<_, _> = weights(folder.path())?.into_iter().map(|(name, t)| (rename(&name), t)).collect();
        save(&renamed, folder.path().join("model.safetensors"))?;
        assert_eq!(logits(&open(folder.path())?)?, expected);
    }
    Ok(())
}

#[test]
fn half_precision_files_are_read_as_what_they_hold() -> Result<()> {
    let expected = logits(&Bert::load("pellucid/tiny-bert-sentiment")?)?;
    for (dtype, tolerance) in [(DType::F16, 1e-6), (DType::F32, 1e-6), (DType::BF16, 0.1)] {
        let folder = copy()?;
        let cast = weights(folder.path())?.into_iter().map(|(name, t)| Ok((name, t.to_dtype(dtype)?)));
        save(&cast.collect::<Result<HashMap<_, _>>>()?, folder.path().join("model.safetensors"))?;
        for (got, expected) in logits(&open(folder.path())?)?.into_iter().zip(&expected) {
            assert!((got - expected).abs() < tolerance, "{dtype:?}: {got} is not {expected}");
        }
    }
    Ok(())
}

/// Splits the weights over two shards with an index.
fn shard(folder: &Path) -> Result<()> {
    let (one, two): (HashMap<_, _>, HashMap<_, _>) =
        weights(folder)?.into_iter().partition(|(name, _)| name.contains(".layer."));
    let index = |shard: &HashMap<String, Tensor>, file: &str| {
        shard.keys().map(|n| (n.clone(), file.into())).collect::<Vec<_>>()
    };
    let map = [index(&one, "model-1.safetensors"), index(&two, "model-2.safetensors")].concat();
    let map: serde_json::Map<String, serde_json::Value> = map.into_iter().collect();
    save(&one, folder.join("model-1.safetensors"))?;
    save(&two, folder.join("model-2.safetensors"))?;
    let index = serde_json::json!({ "weight_map": map });
    fs::write(folder.join("model.safetensors.index.json"), index.to_string())?;
    Ok(fs::remove_file(folder.join("model.safetensors"))?)
}

#[test]
fn shards_make_one_model_and_a_lost_one_is_named() -> Result<()> {
    let folder = copy()?;
    shard(folder.path())?;
    assert_eq!(logits(&open(folder.path())?)?, logits(&Bert::load("pellucid/tiny-bert-sentiment")?)?);
    fs::remove_file(folder.path().join("model-2.safetensors"))?;
    let said = refusal(folder.path());
    assert!(said.contains("model-2.safetensors") && said.contains("lists this shard"), "{said}");
    Ok(())
}

#[test]
fn a_vocabulary_file_stands_in_for_a_tokenizer_file() -> Result<()> {
    let folder = copy()?;
    let expected = open(folder.path())?.read(SENTENCE)?;
    fs::remove_file(folder.path().join("tokenizer.json"))?;
    assert_eq!(open(folder.path())?.read(SENTENCE)?.ids(), expected.ids());
    let pair = open(folder.path())?.read_pair("A good film.", "A bad one.")?;
    assert_eq!(pair.type_ids().iter().filter(|id| **id == 1).count(), 5);
    fs::remove_file(folder.path().join("vocab.txt"))?;
    let said = refusal(folder.path());
    assert!(said.contains("tokenizer.json") && said.contains("no vocab.txt either"), "{said}");
    Ok(())
}

/// A file, how to break it, and what must be said then.
type Breakage = (&'static str, fn(&Path) -> Result<()>, &'static [&'static str]);

#[test]
fn broken_files_are_named_with_what_to_do() -> Result<()> {
    let cases: [Breakage; 6] = [
        (
            "model.safetensors",
            |file| Ok(fs::write(file, &fs::read(file)?[..5000])?),
            &["model.safetensors", "truncated"],
        ),
        ("model.safetensors", |file| Ok(fs::write(file, b"not weights")?), &["model.safetensors", "another format"]),
        ("model.safetensors", |file| Ok(fs::remove_file(file)?), &["model.safetensors.index.json", "save_pretrained"]),
        ("tokenizer.json", |file| Ok(fs::write(file, b"{]")?), &["tokenizer.json", "not a tokenizer"]),
        (
            "config.json",
            |file| edit(file, "\"hidden_size\": 64", "\"hidden_size\": 32"),
            &["has shape", "belong together"],
        ),
        ("config.json", |file| edit(file, "\"gelu\"", "\"gleu\""), &["config.json", "unknown variant `gleu`"]),
    ];
    for (name, break_it, says) in cases {
        let folder = copy()?;
        break_it(&folder.path().join(name))?;
        let said = refusal(folder.path());
        assert!(says.iter().all(|part| said.contains(part)), "{name}: {said}");
    }
    Ok(())
}

fn edit(file: &Path, from: &str, to: &str) -> Result<()> {
    let before = fs::read_to_string(file)?;
    assert!(before.contains(from), "{from} is not in {}", file.display());
    Ok(fs::write(file, before.replace(from, to))?)
}

#[test]
fn other_architectures_and_places_are_answered() -> Result<()> {
    let folder = copy()?;
    edit(&folder.path().join("config.json"), "\"model_type\": \"bert\"", "\"model_type\": \"llama\"")?;
    let said = refusal(folder.path());
    assert!(said.contains("`llama`") && said.contains("BertForSequenceClassification"), "{said}");
    assert!(refusal(Path::new("./no/such/folder")).contains("there is no folder"));
    assert!(refusal(Path::new("pellucid/huge-bert")).contains("there is pellucid/tiny-bert-sentiment"));
    assert!(refusal(tempfile::tempdir()?.path()).contains("config.json"));
    Ok(())
}

#[test]
fn classes_come_from_the_weights_and_are_named_if_nobody_named_them() -> Result<()> {
    let folder = copy()?;
    edit(&folder.path().join("config.json"), "\"id2label\"", "\"labels_of_old\"")?;
    assert_eq!(open(folder.path())?.labels(), ["LABEL_0", "LABEL_1"]);
    let mut tensors = weights(folder.path())?;
    for name in ["classifier.weight", "classifier.bias"] {
        let one = tensors[name].narrow(0, 0, 1)?;
        tensors.insert(name.into(), one);
    }
    save(&tensors, folder.path().join("model.safetensors"))?;
    let predicted = || -> Result<f64> {
        let bert = open(folder.path())?;
        Ok(bert.predict(&bert.read("I loved it.")?)?[0].1)
    };
    let bert = open(folder.path())?;
    let text = bert.read("I loved it.")?;
    let logit = bert.logits(&text, &bert.embed(&text)?.unsqueeze(0)?)?.i((0, 0))?.to_scalar::<f32>()? as f64;
    assert!((predicted()? - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6, "one class is true or not");
    edit(&folder.path().join("config.json"), "\"model_type\"", "\"problem_type\": \"regression\", \"model_type\"")?;
    assert_eq!(predicted()?, logit);
    Ok(())
}

/// A tensor of a type that is not known is there, and no reason to take the model for one without a classifier.
#[test]
fn a_tensor_that_cannot_be_read_is_named() -> Result<()> {
    let folder = copy()?;
    let path = folder.path().join("model.safetensors");
    let file = fs::read(&path)?;
    let (size, rest) = file.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(size.try_into().unwrap_or_default()) as usize);
    let mut header: serde_json::Value = serde_json::from_slice(header)?;
    header["classifier.weight"]["dtype"] = "BOOL".into();
    header["classifier.weight"]["shape"] = serde_json::json!([2, 128]);
    let header = header.to_string();
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat())?;
    let said = refusal(folder.path());
    assert!(said.contains("model.safetensors") && said.contains("BOOL"), "{said}");
    Ok(())
}

#[test]
fn offline_a_half_cached_model_is_told_from_a_broken_one() -> Result<()> {
    let (part, home) = (tempfile::tempdir()?, tempfile::tempdir()?);
    fs::copy(original().join("config.json"), part.path().join("config.json"))?;
    let hub = StandIn::serve(part.path().to_owned())?;
    let home = home.path().to_string_lossy().into_owned();
    let said = load_elsewhere("someone/half", &[("HF_ENDPOINT", &hub.url), ("HF_HOME", &home)])?;
    assert!(said.contains("nor model.safetensors"), "{said}");
    let said = load_elsewhere("someone/half", &[("HF_HUB_OFFLINE", "1"), ("HF_HOME", &home)])?;
    assert!(said.contains("not in the local cache, and HF_HUB_OFFLINE forbids"), "{said}");
    let said = load_elsewhere("someone/half", &[("HF_ENDPOINT", NOWHERE), ("HF_HOME", &home)])?;
    assert!(said.contains("not fetched") && said.contains("the hub cannot be reached"), "{said}");
    Ok(())
}

/// Of sharded weights, the cache does not say that there is no file with all of them.
#[test]
fn without_network_a_cached_model_is_loaded() -> Result<()> {
    let (folder, home) = (copy()?, tempfile::tempdir()?);
    shard(folder.path())?;
    let hub = StandIn::serve(folder.path().to_owned())?;
    let home = home.path().to_string_lossy().into_owned();
    let expected = format!("loaded {:?}", logits(&open(folder.path())?)?);
    let load = |endpoint: &str| load_elsewhere("someone/sharded", &[("HF_ENDPOINT", endpoint), ("HF_HOME", &home)]);
    for endpoint in [hub.url.as_str(), NOWHERE] {
        let said = load(endpoint)?;
        assert!(said.contains(&expected), "{endpoint}: {said}");
    }
    fs::write(folder.path().join("busy"), "")?;
    let said = load(&hub.url)?;
    assert!(said.contains(&expected), "busy: {said}");
    Ok(())
}

/// A file that a model may do without is not taken for absent because the connection broke.
#[test]
fn a_download_that_breaks_off_is_an_error() -> Result<()> {
    let (folder, home) = (copy()?, tempfile::tempdir()?);
    fs::remove_file(folder.path().join("tokenizer.json"))?;
    fs::create_dir(folder.path().join("tokenizer.json"))?;
    let hub = StandIn::serve(folder.path().to_owned())?;
    let home = home.path().to_string_lossy().into_owned();
    let said = load_elsewhere("someone/broken-off", &[("HF_ENDPOINT", &hub.url), ("HF_HOME", &home)])?;
    assert!(said.contains("`tokenizer.json` of `someone/broken-off` could not be fetched"), "{said}");
    Ok(())
}

/// A masked language model's head, made from the classifier's weights.
#[test]
fn a_masked_language_model_fills_its_gap() -> Result<()> {
    let folder = copy()?;
    let mut tensors = weights(folder.path())?;
    tensors.retain(|name, _| !name.starts_with("classifier"));
    let identity = Tensor::eye(64, DType::F32, &Device::Cpu)?;
    let (ones, zeros) = (Tensor::ones(64, DType::F32, &Device::Cpu)?, Tensor::zeros(64, DType::F32, &Device::Cpu)?);
    let vocabulary = tensors["bert.embeddings.word_embeddings.weight"].dims()[0];
    let bias = Tensor::arange(0f32, vocabulary as f32, &Device::Cpu)?;
    for (name, tensor) in [
        ("transform.dense.weight", identity),
        ("transform.dense.bias", zeros.clone()),
        ("transform.LayerNorm.gamma", ones),
        ("transform.LayerNorm.beta", zeros),
        ("bias", bias),
    ] {
        tensors.insert(format!("cls.predictions.{name}"), tensor);
    }
    save(&tensors, folder.path().join("model.safetensors"))?;
    let bert = open(folder.path())?;
    let text = bert.read("The [MASK] was good.")?;
    let x = bert.embed(&text)?.unsqueeze(0)?;
    let filled = bert.fill_mask(&text, &x)?;
    assert_eq!(filled.dims(), [1, vocabulary]);
    // the last token's bias towers over every logit
    assert_eq!(filled.argmax(1)?.to_vec1::<u32>()?, [vocabulary as u32 - 1]);
    let whole = bert.read("The film was good.")?;
    assert!(bert.fill_mask(&whole, &x).is_err_and(|e| e.to_string().contains("no [MASK]")));
    assert!(bert.logits(&text, &x).is_err_and(|e| e.to_string().contains("a classifier")));
    Ok(())
}

// ---- the hub, played by a server on this machine --------------------------------------------------------------------

/// Where nobody answers.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Serves a folder as the hub does: commit and etag headers, ranges, 404 for what is not there. Where a folder stands instead of
/// a file it hangs up, and where there is a file called `busy` it has time for nobody.
struct StandIn {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    fn serve(folder: PathBuf) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, log) = (folder.clone(), log.clone());
                std::thread::spawn(move || answer(stream, &folder, &log));
            }
        });
        Ok(Self { url, requests })
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().map(|log| log.clone()).unwrap_or_default()
    }
}

/// Answers requests on one connection until it is closed.
fn answer(stream: TcpStream, folder: &Path, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut request = String::new();
        while reader.read_line(&mut request)? > 2 {}
        if request.is_empty() {
            return Ok(());
        }
        if let Ok(mut log) = log.lock() {
            log.push(request.clone());
        }
        respond(&stream, folder, &request)?;
    }
}

fn respond(mut stream: &TcpStream, folder: &Path, request: &str) -> std::io::Result<()> {
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    if folder.join("busy").exists() {
        return write!(stream, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    }
    let bytes = match fs::read(folder.join(name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
        bytes => bytes?,
    };
    let range = request.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_string));
    let (from, to) = range.as_deref().and_then(|r| r.split_once('-')).unwrap_or(("0", ""));
    let from: usize = from.trim().parse().unwrap_or(0);
    let to = to.trim().parse().map_or(bytes.len(), |to: usize| (to + 1).min(bytes.len()));
    let (length, total) = (to - from, bytes.len());
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\nContent-Range: bytes {from}-{}/{total}\r\n",
        to - 1
    )?;
    write!(stream, "x-repo-commit: 0123456789abcdef\r\netag: \"{name}-{total}\"\r\nAccept-Ranges: bytes\r\n\r\n")?;
    stream.write_all(&bytes[from..to])
}

/// Loads a model from the hub in a process of its own, because the hub is configured by environment variables.
fn load_elsewhere(id: &str, variables: &[(&str, &str)]) -> Result<String> {
    let this = std::env::current_exe()?;
    let mut command = Command::new(this);
    command.args(["--exact", "load_what_the_environment_names", "--nocapture"]).env("PELLUCID_TEST_LOAD", id);
    ["HF_ENDPOINT", "HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "PELLUCID_MODELS"].iter().for_each(|name| {
        command.env_remove(name);
    });
    let output = command.envs(variables.iter().copied()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn load_what_the_environment_names() -> Result<()> {
    let Ok(id) = std::env::var("PELLUCID_TEST_LOAD") else { return Ok(()) };
    let load = Load { revision: std::env::var("PELLUCID_TEST_REVISION").ok(), ..Load::default() };
    match Bert::load_with(&id, &load).and_then(|bert| logits(&bert)) {
        Ok(logits) => println!("loaded {logits:?}"),
        Err(error) => println!("refused {error}"),
    }
    Ok(())
}

#[test]
fn the_hub_is_asked_once_with_revision_and_token_and_the_cache_serves_offline() -> Result<()> {
    let hub = StandIn::serve(original())?;
    let home = tempfile::tempdir()?;
    let home = home.path().to_string_lossy().into_owned();
    let online = [
        ("HF_ENDPOINT", hub.url.as_str()),
        ("HF_HOME", &home),
        ("HF_TOKEN", "secret"),
        ("PELLUCID_TEST_REVISION", "v1"),
    ];
    let expected = format!("loaded {:?}", logits(&Bert::load("pellucid/tiny-bert-sentiment")?)?);
    let said = load_elsewhere("someone/tiny-bert", &online)?;
    assert!(said.contains(&expected), "{said}");
    let requests = hub.requests();
    assert!(requests.iter().any(|r| r.contains("/someone/tiny-bert/resolve/v1/model.safetensors")), "{requests:?}");
    assert!(requests.iter().all(|r| r.to_ascii_lowercase().contains("authorization: bearer secret")));
    let offline = [("HF_HUB_OFFLINE", "1"), ("HF_HOME", home.as_str()), ("PELLUCID_TEST_REVISION", "v1")];
    assert!(load_elsewhere("someone/tiny-bert", &offline)?.contains(&expected));
    assert_eq!(hub.requests().len(), requests.len());
    Ok(())
}

#[test]
fn the_hub_serves_the_shards_of_pytorch_as_well() -> Result<()> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch");
    let (folder, home) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for name in ["config.json", "vocab.txt"] {
        fs::copy(fixtures.join("model").join(name), folder.path().join(name))?;
    }
    for shard in fs::read_dir(fixtures.join("shards"))? {
        let shard = shard?;
        fs::copy(shard.path(), folder.path().join(shard.file_name()))?;
    }
    let hub = StandIn::serve(folder.path().to_owned())?;
    let home = home.path().to_string_lossy().into_owned();
    let said = load_elsewhere("someone/pickled", &[("HF_ENDPOINT", &hub.url), ("HF_HOME", &home)])?;
    assert!(said.contains(&format!("loaded {:?}", logits(&open(&fixtures.join("model"))?)?)), "{said}");
    Ok(())
}

#[test]
fn no_network_no_model_and_no_permission_are_told_apart() -> Result<()> {
    let (empty, home) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let hub = StandIn::serve(empty.path().to_owned())?;
    let home = home.path().to_string_lossy().into_owned();
    let said = load_elsewhere("someone/missing", &[("HF_ENDPOINT", &hub.url), ("HF_HOME", &home)])?;
    assert!(said.contains("refused the hub has no model `someone/missing`"), "{said}");
    let said = load_elsewhere("someone/missing", &[("HF_ENDPOINT", NOWHERE), ("HF_HOME", &home)])?;
    assert!(said.contains("the hub cannot be reached") && said.contains("$PELLUCID_MODELS"), "{said}");
    let said = load_elsewhere("someone/missing", &[("HF_HUB_OFFLINE", "1"), ("HF_HOME", &home)])?;
    assert!(said.contains("HF_HUB_OFFLINE forbids"), "{said}");
    Ok(())
}

#[test]
fn a_shelf_of_folders_comes_before_the_hub() -> Result<()> {
    let shelf = tempfile::tempdir()?;
    let place = shelf.path().join("someone");
    fs::create_dir(&place)?;
    std::os::unix::fs::symlink(original(), place.join("tiny-bert"))?;
    let said = load_elsewhere("someone/tiny-bert", &[("PELLUCID_MODELS", &shelf.path().to_string_lossy())])?;
    assert!(said.contains("loaded"), "{said}");
    Ok(())
}
