//! A context in sources, and what is left of it without some.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::attribution::Features;
use crate::model::parts::part;
use crate::model::text::{Text, Token};
use crate::{Error, Result};

/// A context cut into s sources, with what separates them.
///
/// Unlike [`Parts`](crate::model::parts::Parts), which take tokens out of a prompt, this makes a shorter *text*, as an author
/// would have written it, to be put into a prompt and read anew.
///
/// ```
/// # use pellucid::prelude::*;
/// let sources = Sources::sentences("Anna built the bridge. It is red.\n\nIn 1954 the trains stopped.")?;
/// assert_eq!(sources.parts()[2], "In 1954 the trains stopped.");
/// assert_eq!(sources.ablated_context(&[true, false, true])?, "Anna built the bridge.\n\nIn 1954 the trains stopped.");
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    context: String,
    places: Vec<Range<usize>>,
}

impl Sources {
    /// Sentences, by Unicode's rules; a heading or the item of a list, on a line of its own, is one too.
    ///
    /// Errors: the context is empty.
    ///
    /// **When it misleads**: a full stop before a capital ends a sentence, so «Dr. Holm» is torn in two.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let sources = Sources::sentences("# Lamps\nThe lamp is green. It is in the bedroom.")?;
    /// assert_eq!(sources.parts(), ["# Lamps", "The lamp is green.", "It is in the bedroom."]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn sentences(context: &str) -> Result<Self> {
        Self::trimmed(context, context.split_sentence_bound_indices())
    }

    /// Words, by Unicode's rules; punctuation marks by themselves.
    ///
    /// Errors: the context is empty.
    ///
    /// **When it misleads**: one word is soon guessed from the others, and many sources need many masks.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!(Sources::words("It rains.")?.parts(), ["It", "rains", "."]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn words(context: &str) -> Result<Self> {
        Self::trimmed(context, context.split_word_bound_indices())
    }

    /// Paragraphs, which blank lines separate.
    ///
    /// Errors: the context is empty.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let sources = Sources::paragraphs("It rains.\nIt is cold.\n\nAnna sleeps.")?;
    /// assert_eq!(sources.parts(), ["It rains.\nIt is cold.", "Anna sleeps."]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn paragraphs(context: &str) -> Result<Self> {
        let (mut places, mut start, mut open): (Vec<Range<usize>>, _, _) = (Vec::new(), 0, false);
        for line in context.split_inclusive('\n') {
            let place = trim(start, line);
            start += line.len();
            match places.last_mut() {
                Some(last) if open && !place.is_empty() => last.end = place.end,
                _ if !place.is_empty() => places.push(place.clone()),
                _ => (),
            }
            open = !place.is_empty();
        }
        Self::some(context, places)
    }

    /// Sources of one's own: parts of the context as it spells them, each where it first stands after the one before. What is
    /// in none of them separates: it stands before a source that is kept, and goes with one that is not.
    ///
    /// Errors: none given; an empty one; one that is not in the context.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let sources = Sources::spans("Anna (34) lives in Austin.", &["34", "Austin"])?;
    /// assert_eq!(sources.parts(), ["34", "Austin"]);
    /// assert_eq!(sources.separators(), ["Anna (", ") lives in "]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn spans(context: &str, spans: &[&str]) -> Result<Self> {
        let (mut places, mut from) = (Vec::with_capacity(spans.len()), 0);
        for span in spans {
            let found = context[from..].find(span).filter(|_| !span.is_empty());
            let at = found.ok_or_else(|| Error::argument(format!("the context does not say «{span}» (any more)")))?;
            places.push(from + at..from + at + span.len());
            from += at + span.len();
        }
        Self::some(context, places)
    }

    /// Pieces of the context without the white space around them; blank ones are none.
    fn trimmed<'a>(context: &str, pieces: impl Iterator<Item = (usize, &'a str)>) -> Result<Self> {
        let places = pieces.map(|(start, piece)| trim(start, piece)).filter(|place| !place.is_empty()).collect();
        Self::some(context, places)
    }

    fn some(context: &str, places: Vec<Range<usize>>) -> Result<Self> {
        match places.is_empty() {
            true => Err(Error::argument("the context has no sources: it is empty, or none of it was asked for")),
            false => Ok(Self { context: context.into(), places }),
        }
    }

    /// The whole context.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// How many sources there are; at least one.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none, which cannot be made.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Where in the context each source stands, in bytes.
    pub fn places(&self) -> &[Range<usize>] {
        &self.places
    }

    /// What each source says.
    pub fn parts(&self) -> Vec<String> {
        self.places.iter().map(|place| self.context[place.clone()].to_string()).collect()
    }

    /// The sources as what scores are over.
    pub(crate) fn features(&self) -> Features {
        let tokens = self.places.iter().map(|place| part(self.context[place.clone()].into(), place.clone())).collect();
        Features::Spans { text: self.context.clone(), tokens }
    }

    /// What stands before each source: after the one before, or at the beginning of the context.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let sources = Sources::sentences("It rains.\n\nIt is cold. Anna sleeps.")?;
    /// assert_eq!(sources.separators(), ["", "\n\n", " "]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn separators(&self) -> Vec<String> {
        (0..self.len()).map(|source| self.separator(source).to_string()).collect()
    }

    fn separator(&self, source: usize) -> &str {
        let from = source.checked_sub(1).map_or(0, |before| self.places[before].end);
        &self.context[from..self.places[source].start]
    }

    /// Which sources are kept, `(s,)` → the context that is left: those kept, each after its own separator, the first without.
    ///
    /// What stands before the first source that is kept and after the last is left out, even if all are; if none is kept,
    /// nothing is left, which a prompt may well say.
    ///
    /// Errors: not one flag per source.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let sources = Sources::sentences("It rains. It is cold.\n\nAnna sleeps.")?;
    /// assert_eq!(sources.ablated_context(&[true, false, true])?, "It rains.\n\nAnna sleeps.");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn ablated_context(&self, keep: &[bool]) -> Result<String> {
        if keep.len() != self.len() {
            return Err(Error::shape("what is kept", format!("({},), one per source", self.len()), &[keep.len()]));
        }
        let mut left = String::new();
        for (source, _) in keep.iter().enumerate().filter(|(_, kept)| **kept) {
            let separator = if left.is_empty() { "" } else { self.separator(source) };
            left.extend([separator, &self.context[self.places[source].clone()]]);
        }
        Ok(left)
    }
}

impl Sources {
    /// The context with some sources only, in its order: what is left of it after [`ablated_context`](Self::ablated_context)
    /// drops all others. A shorter prompt with the sources that matter often gets a better answer.
    ///
    /// Errors: a source that is not there.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let sources = Sources::sentences("It rains. It is cold. Anna sleeps.")?;
    /// assert_eq!(sources.keeping(&[2, 0])?, "It rains. Anna sleeps.");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn keeping(&self, sources: &[usize]) -> Result<String> {
        self.ablated_context(&self.flags(sources, true)?)
    }

    /// The context without some sources: does the answer change if those that matter are gone?
    ///
    /// Errors: a source that is not there.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let sources = Sources::sentences("It rains. It is cold. Anna sleeps.")?;
    /// assert_eq!(sources.without(&[1])?, "It rains. Anna sleeps.");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn without(&self, sources: &[usize]) -> Result<String> {
        self.ablated_context(&self.flags(sources, false)?)
    }

    /// `value` for these sources, its contrary for all others.
    pub(super) fn flags(&self, sources: &[usize], value: bool) -> Result<Vec<bool>> {
        let mut keep = vec![!value; self.len()];
        for &source in sources {
            *keep.get_mut(source).ok_or_else(|| Error::out_of_range("source", source, self.len()))? = value;
        }
        Ok(keep)
    }

    /// Some of the sources cut finer, by [`Sources::sentences`], [`Sources::words`] or a function of one's own; the others stay
    /// whole. So a long context is searched from its paragraphs down.
    ///
    /// Errors: a source that is not there; those of `cut`.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let paragraphs = Sources::paragraphs("It rained. It was cold.\n\nAnna slept. The cat did not.")?;
    /// assert_eq!(paragraphs.refined(&[1], Sources::sentences)?.parts(), ["It rained. It was cold.", "Anna slept.", "The cat did not."]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn refined(&self, sources: &[usize], cut: fn(&str) -> Result<Self>) -> Result<Self> {
        let finer = self.flags(sources, true)?;
        let mut places = Vec::new();
        for (place, finer) in self.places.iter().zip(finer) {
            match finer {
                true => {
                    let inside = cut(&self.context[place.clone()])?.places;
                    places.extend(inside.into_iter().map(|inner| place.start + inner.start..place.start + inner.end));
                }
                false => places.push(place.clone()),
            }
        }
        Self::some(&self.context, places)
    }

    /// The tokens of each source in a prompt that says the context, `s` ranges one after the other: what separates a source from
    /// the one before is its own, and a token that two share is the first one's.
    ///
    /// Errors: the prompt does not say the context.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let sources = Sources::sentences("Sarah plays the piano. The lamp is in the bedroom.")?;
    /// let prompt = llm.read(format!("{} Where is the lamp?", sources.context()))?;
    /// let second = &prompt.tokens()[sources.tokens(&prompt)?[1].clone()];
    /// assert_eq!(second.iter().map(|token| token.text.as_str()).collect::<String>().trim(), "The lamp is in the bedroom.");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn tokens(&self, prompt: &Text) -> Result<Vec<Range<usize>>> {
        self.tokens_in(prompt.source(), prompt.tokens())
    }

    pub(crate) fn tokens_in(&self, text: &str, tokens: &[Token]) -> Result<Vec<Range<usize>>> {
        let (first, last) = (self.places[0].start, self.places[self.len() - 1].end);
        let found = text.find(&self.context[first..last]);
        let at = found.ok_or_else(|| {
            Error::argument("the prompt does not say the context as it is: does its template change white space?")
        })?;
        let plain: Vec<_> = tokens.iter().enumerate().filter(|(_, token)| !token.special).collect();
        let start = plain.iter().find(|(_, token)| token.end > at).map_or(0, |(i, _)| *i);
        let end = |place: &Range<usize>| plain.iter().rev().find(|(_, token)| token.start < at + place.end - first);
        let ends = self.places.iter().map(|place| end(place).map_or(start, |(i, _)| i + 1).max(start));
        let starts = std::iter::once(start).chain(ends.clone());
        Ok(starts.zip(ends).map(|(start, end)| start..end).collect())
    }
}

/// Where a piece stands without the white space around it.
fn trim(start: usize, piece: &str) -> Range<usize> {
    let start = start + piece.len() - piece.trim_start().len();
    start..start + piece.trim().len()
}
