//! The vocabulary files of tiktoken, as Qwen-VL has one: tokens in the order in which they were learnt. By which merges they
//! were learnt is not written down, and is found again here.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::{AddedToken, PreTokenizerWrapper, Tokenizer as Engine};

use super::split::split;
use super::text::Tokenizer;
use crate::{Error, Result};

impl Tokenizer {
    /// From `qwen.tiktoken`: on each line a token's bytes in base64 and its rank, which is its number. Qwen-VL's special
    /// tokens follow the last rank.
    ///
    /// Errors: a line that says something else; a rank left out; a token that is there twice; a byte that is no token.
    pub(crate) fn from_tiktoken(file: &[u8]) -> Result<Self> {
        let mut engine = Engine::new(model(&tokens(file)?)?);
        engine.with_normalizer(Some(NFC)).map_err(Error::argument)?;
        let pieces: Option<PreTokenizerWrapper> = split("qwen2").map(serde_json::from_value).transpose()?;
        engine.with_pre_tokenizer(pieces).with_decoder(Some(ByteLevel::new(false, false, false)));
        engine.add_special_tokens(marks().map(|mark| AddedToken::from(mark, true))).map_err(Error::argument)?;
        Ok(Self::unlimited(engine))
    }
}

/// Byte-level BPE that merges in the order of the ranks. A piece of text that is a token is taken whole, even if no merges
/// lead to it.
fn model(tokens: &[Vec<u8>]) -> Result<BPE> {
    let (ranks, letters) = (ranks(tokens)?, letters());
    let spell = |bytes: &[u8]| bytes.iter().map(|&byte| letters[usize::from(byte)]).collect::<String>();
    let vocabulary: Vocab = tokens.iter().zip(0..).map(|(token, rank)| (spell(token), rank)).collect();
    let halves = tokens.iter().filter_map(|token| halves(token, &ranks));
    let merges: Merges = halves.map(|(left, right)| (spell(left), spell(right))).collect();
    let model = BPE::builder().vocab_and_merges(vocabulary, merges).ignore_merges(true).build();
    model.map_err(Error::argument)
}

/// Qwen-VL's special tokens, in the order of their numbers.
fn marks() -> impl Iterator<Item = String> {
    let talk = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(String::from);
    let extra = (0..205).map(|number| format!("<|extra_{number}|>"));
    let places = ["<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>"].map(String::from);
    let images = ["<img>", "</img>", "<imgpad>"].map(String::from);
    talk.into_iter().chain(extra).chain(places).chain(images)
}

/// The tokens of a file, by rank.
fn tokens(file: &[u8]) -> Result<Vec<Vec<u8>>> {
    let lines = file.split(|&byte| byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
    lines.zip(0..).map(|((line, number), rank)| token(line, number, rank)).collect()
}

/// A line's token, if its rank is the next one.
fn token(line: &[u8], number: usize, expected: usize) -> Result<Vec<u8>> {
    match parsed(line) {
        Some((token, rank)) if rank == expected => Ok(token),
        Some((_, rank)) => Err(Error::argument(format!(
            "line {number} has the rank {rank} where {expected} comes next, so lines are missing; fetch the file again"
        ))),
        None => Err(Error::argument(format!(
            "line {number} is not a token in base64, a space and a rank: the file is broken; fetch it again"
        ))),
    }
}

/// A line's token and its rank; `None` if it has another form.
fn parsed(line: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (token, rank) = std::str::from_utf8(line).ok()?.trim().split_once(' ')?;
    Some((BASE64_STANDARD.decode(token).ok()?, rank.parse().ok()?))
}

/// The tokens' ranks. With every byte among them, they can spell every text.
fn ranks(tokens: &[Vec<u8>]) -> Result<HashMap<&[u8], usize>> {
    let ranks: HashMap<&[u8], usize> = tokens.iter().map(Vec::as_slice).zip(0..).collect();
    if ranks.len() < tokens.len() {
        return Err(Error::argument("two of its lines have the same token; fetch the file again"));
    }
    match (0..=255).find(|&byte| !ranks.contains_key([byte].as_slice())) {
        Some(byte) => Err(Error::argument(format!("it has no token for the byte 0x{byte:02x}; fetch the file again"))),
        None => Ok(ranks),
    }
}

/// What a token was merged from: the two parts that are left of its bytes when neighbours of the lowest rank are merged again
/// and again. `None` if more are left: then no merges lead to the token.
fn halves<'a>(token: &'a [u8], ranks: &HashMap<&[u8], usize>) -> Option<(&'a [u8], &'a [u8])> {
    let own = *ranks.get(token)?;
    let mut cuts: Vec<usize> = (0..=token.len()).collect();
    while cuts.len() > 3 {
        let merged = cuts.windows(3).map(|cuts| ranks.get(&token[cuts[0]..cuts[2]]));
        let (_, first) =
            merged.zip(0..).filter_map(|(rank, at)| Some((*rank?, at))).filter(|(rank, _)| *rank < own).min()?;
        cuts.remove(first + 1);
    }
    (token.len() > 1).then(|| token.split_at(cuts[1]))
}

/// The letters by which a byte-level vocabulary spells bytes: those that Latin-1 can print spell themselves, and the others
/// are spelt by the letters from U+0100 on, in order.
fn letters() -> Vec<char> {
    let mut others = '\u{100}'..;
    let letter = |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => others.next().unwrap_or_default(),
    };
    (0..=255).map(letter).collect()
}
