//! Qwen's own vocabulary file is read as tiktoken reads it, and what is wrong with one is said.

use std::fs;
use std::path::{Path, PathBuf};

use pellucid::model::Checkpoint;
use pellucid::model::text::Tokenizer;
use pellucid::prelude::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiktoken")
}

fn tokenizer(folder: &Path) -> Result<Tokenizer> {
    Checkpoint::open(&folder.to_string_lossy(), &Load::default())?.tokenizer()
}

/// How many ranks the vocabulary has.
const RANKS: u32 = 496;

/// A text and its numbers.
#[derive(serde::Deserialize)]
struct Said {
    text: String,
    ids: Vec<u32>,
}

#[test]
fn texts_are_cut_as_tiktoken_cuts_them() -> Result<()> {
    let tokenizer = tokenizer(&fixtures())?;
    for Said { text, ids } in serde_json::from_slice::<Vec<_>>(&fs::read(fixtures().join("expected.json"))?)? {
        assert_eq!(tokenizer.read(&text)?.ids(), ids, "{text:?}");
        assert_eq!(tokenizer.read_plain(&text)?.ids(), ids, "{text:?}");
    }
    Ok(())
}

#[test]
fn special_tokens_follow_the_ranks_and_are_known_as_such() -> Result<()> {
    let tokenizer = tokenizer(&fixtures())?;
    let places = [("<|endoftext|>", 0), ("<|im_end|>", 2), ("<|extra_204|>", 207), ("<ref>", 208), ("<img>", 214)];
    for (mark, place) in places.into_iter().chain([("</img>", 215), ("<imgpad>", 216)]) {
        assert_eq!(tokenizer.id(mark)?, RANKS + place, "{mark}");
    }
    let text = tokenizer.read("<ref>the river</ref>")?;
    let special: Vec<_> = text.tokens().iter().filter(|token| token.special).map(|token| token.text.as_str()).collect();
    assert_eq!(special, ["<ref>", "</ref>"]);
    Ok(())
}

#[test]
fn tokens_say_what_they_were_read_from() -> Result<()> {
    let tokenizer = tokenizer(&fixtures())?;
    let prompt = tokenizer.read("the light")?;
    let river = " on the river, 夜の川は黒い。";
    assert_eq!(tokenizer.continuation(&prompt, river)?.text(), river);
    assert_eq!(tokenizer.piece(tokenizer.id(" the")?)?, " the");
    Ok(())
}

/// How a file is changed, and what must be said then.
type Change = (fn(&str) -> String, &'static [&'static str]);

#[test]
fn a_broken_file_is_named_with_its_line() -> Result<()> {
    let cases: [Change; 6] = [
        (|file| file.replace("\nIg== 1\n", "\nIg= 1\n"), &["line 2 is not a token in base64"]),
        (|file| file.replace("\nIg== 1\n", "\nIg==\n"), &["line 2 is not a token in base64"]),
        (|file| file.replace("\nIg== 1\n", "\n"), &["line 2 has the rank 2 where 1 comes next"]),
        (|file| file.replace("\nIg== 1\n", "\nIQ== 1\n"), &["the same token"]),
        (|file| file.lines().take(200).map(|line| format!("{line}\n")).collect(), &["no token for the byte 0x"]),
        (|_| String::new(), &["no token for the byte 0x00"]),
    ];
    let file = fs::read_to_string(fixtures().join("qwen.tiktoken"))?;
    for (change, says) in cases {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("qwen.tiktoken"), change(&file))?;
        let said = tokenizer(folder.path()).map_or_else(|error| error.to_string(), |_| "no error".into());
        assert!(said.contains("qwen.tiktoken") && says.iter().all(|part| said.contains(part)), "{said}");
    }
    Ok(())
}

#[test]
fn line_ends_of_another_system_change_nothing() -> Result<()> {
    let (folder, text) = (tempfile::tempdir()?, "the light on the river");
    let file = fs::read_to_string(fixtures().join("qwen.tiktoken"))?;
    fs::write(folder.path().join("qwen.tiktoken"), file.replace('\n', "\r\n"))?;
    assert_eq!(tokenizer(folder.path())?.read(text)?.ids(), tokenizer(&fixtures())?.read(text)?.ids());
    Ok(())
}
