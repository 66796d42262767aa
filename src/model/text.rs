//! Text as a model reads it: tokens, where they stand in the text, and which words they are pieces of.

use serde::{Deserialize, Serialize};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{Encoding, Tokenizer as Engine};

use crate::{Error, Result};

/// One token of a text, or, after summing, one word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// What to print: the token as the tokenizer spells it, or the word as the text does.
    pub text: String,
    /// Its number in the vocabulary; that of its first piece for a word.
    pub id: u32,
    /// Where it starts in the text, in bytes.
    pub start: usize,
    /// Where it ends in the text, in bytes, exclusive.
    pub end: usize,
    /// Which word it is a piece of: (sequence, word), `None` for special tokens.
    pub word: Option<(usize, u32)>,
    /// Whether the tokenizer put it there: `[CLS]`, `[SEP]`, `[PAD]`.
    pub special: bool,
}

impl Token {
    /// Whether this token is a further piece of the word `before` belongs to.
    pub(crate) fn continues(&self, before: &Token) -> bool {
        self.word.is_some() && self.word == before.word
    }

    /// The token as the first piece of a word, spelled as in the text.
    pub(crate) fn as_word(&self, text: &str) -> Token {
        let mut word = self.clone();
        if !self.special {
            word.respell(text);
        }
        word
    }

    /// The word grows by a further piece.
    pub(crate) fn absorb(&mut self, piece: &Token, text: &str) {
        self.end = piece.end;
        self.respell(text);
    }

    /// Spells the word as the text does.
    fn respell(&mut self, text: &str) {
        if let Some(spelling) = text.get(self.start..self.end) {
            self.text = spelling.to_string();
        }
    }
}

/// A text, or a pair of texts, as token ids `(t,)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    source: String,
    tokens: Vec<Token>,
    type_ids: Vec<u32>,
    mask: Vec<bool>,
}

impl Text {
    /// The text itself; a pair is joined by a space.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How many tokens it has, special ones included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it has no tokens; a text that was read has some.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Its tokens.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Their numbers in the vocabulary.
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }

    /// For each token, which text of a pair it belongs to.
    pub fn type_ids(&self) -> &[u32] {
        &self.type_ids
    }

    /// Which tokens may be attended to, if some may not.
    pub fn mask(&self) -> Option<&[bool]> {
        self.mask.contains(&false).then_some(&self.mask)
    }

    /// The text with padding appended up to `len` tokens, hidden from attention.
    pub fn padded(mut self, len: usize, padding: Token) -> Self {
        let len = len.max(self.len());
        self.tokens.resize(len, padding);
        self.type_ids.resize(len, 0);
        self.mask.resize(len, false);
        self
    }
}

/// Turns text into tokens as the checkpoint's own tokenizer does, never padding and never cutting.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    engine: Engine,
}

impl Tokenizer {
    /// From a `tokenizer.json`.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let engine = Engine::from_bytes(json).map_err(Error::argument)?;
        Ok(Self::unlimited(engine))
    }

    /// From BERT's older `vocab.txt`, one token per line: WordPiece, lower-casing if `lowercase`.
    pub fn from_vocab(vocab: &[u8], lowercase: bool) -> Result<Self> {
        let vocab = WordPiece::read_bytes(vocab).map_err(Error::argument)?;
        let id = |token: &str| {
            let found = vocab.get(token).copied();
            found.ok_or_else(|| Error::argument(format!("the vocabulary has no `{token}`")))
        };
        let special = vec![("[CLS]", id("[CLS]")?), ("[SEP]", id("[SEP]")?)];
        let frame = TemplateProcessing::builder()
            .try_single("[CLS] $A [SEP]")
            .and_then(|b| b.try_pair("[CLS] $A [SEP] $B:1 [SEP]:1"))
            .map_err(Error::argument)?
            .special_tokens(special)
            .build()
            .map_err(Error::argument)?;
        let model = WordPiece::builder().vocab(vocab).unk_token("[UNK]".into()).build().map_err(Error::argument)?;
        let mut engine = Engine::new(model);
        let normalizer = BertNormalizer::new(true, true, None, lowercase);
        engine.with_normalizer(Some(normalizer)).map_err(Error::argument)?;
        engine.with_pre_tokenizer(Some(BertPreTokenizer)).with_post_processor(Some(frame));
        let marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let marks: Vec<_> = marks.iter().map(|mark| tokenizers::AddedToken::from(*mark, true)).collect();
        engine.add_special_tokens(marks).map_err(Error::argument)?;
        Ok(Self::unlimited(engine))
    }

    fn unlimited(mut engine: Engine) -> Self {
        engine.with_padding(None);
        // Taking a limit away cannot fail: only setting one can.
        let _ = engine.with_truncation(None);
        Self { engine }
    }

    /// A text, framed by the tokenizer's special tokens.
    ///
    /// Errors: bytes that are not UTF-8; nothing but special tokens.
    pub fn read(&self, text: impl AsRef<[u8]>) -> Result<Text> {
        let text = utf8(text.as_ref())?;
        let encoding = self.engine.encode(text, true).map_err(Error::argument)?;
        self.text(text.to_string(), &encoding, 0)
    }

    /// Two texts in one sequence.
    ///
    /// Errors: those of [`read`](Self::read).
    pub fn read_pair(&self, first: impl AsRef<[u8]>, second: impl AsRef<[u8]>) -> Result<Text> {
        let (first, second) = (utf8(first.as_ref())?, utf8(second.as_ref())?);
        let encoding = self.engine.encode((first, second), true).map_err(Error::argument)?;
        self.text(format!("{first} {second}"), &encoding, first.len() + 1)
    }

    /// The number of a token in the vocabulary.
    pub fn id(&self, token: &str) -> Result<u32> {
        let unknown = || Error::argument(format!("the vocabulary has no token `{token}`"));
        self.engine.token_to_id(token).ok_or_else(unknown)
    }

    /// A token of the vocabulary by itself, as padding is.
    pub fn special(&self, token: &str) -> Result<Token> {
        Ok(Token { text: token.into(), id: self.id(token)?, start: 0, end: 0, word: None, special: true })
    }

    /// Tokens with their places; the second text of a pair starts `offset` bytes into the joined source.
    fn text(&self, source: String, encoding: &Encoding, offset: usize) -> Result<Text> {
        let sequences = encoding.get_sequence_ids();
        let token = |i: usize| {
            let special = encoding.get_special_tokens_mask()[i] == 1 || sequences[i].is_none();
            let sequence = sequences[i].unwrap_or(0);
            let (start, end) = encoding.get_offsets()[i];
            let shift = if sequence == 1 { offset } else { 0 };
            let word = encoding.get_word_ids()[i].filter(|_| !special).map(|word| (sequence, word));
            let (text, id) = (encoding.get_tokens()[i].clone(), encoding.get_ids()[i]);
            Token { text, id, start: start + shift, end: end + shift, word, special }
        };
        let tokens: Vec<_> = (0..encoding.len()).map(token).collect();
        match tokens.iter().all(|token| token.special && token.text != "[MASK]") {
            true => Err(Error::EmptyText),
            false => Ok(Text {
                source,
                type_ids: encoding.get_type_ids().to_vec(),
                mask: encoding.get_attention_mask().iter().map(|&seen| seen == 1).collect(),
                tokens,
            }),
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let position = error.valid_up_to();
        Error::BadUtf8 { position, byte: bytes[position] }
    })
}
