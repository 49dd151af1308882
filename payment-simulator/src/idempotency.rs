//! What was answered under an `Idempotency-Key`. One rule for both providers that have such keys; they differ in what
//! makes two requests the same (Toss: nothing of the body, Stripe: all parameters), in how long an answer is kept, and
//! in which answers are kept at all.

use crate::call::Answer;
use std::collections::{HashMap, VecDeque};

/// What is known about a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Recall {
    /// Never seen. It counts as running from now on: say how it ends with [`Memory::finish`].
    Fresh,
    /// A request with this key has no answer yet.
    Running,
    /// The first answer.
    Replay(Answer),
    /// The key belongs to a request with other parameters.
    Mismatch,
    /// No more keys are kept.
    Full,
}

/// The keys of one provider.
#[derive(Debug)]
pub struct Memory {
    life_ms: i64,
    keys_max: usize,
    entries: HashMap<String, Entry>,
    by_age: VecDeque<(i64, String)>,
}

#[derive(Debug)]
struct Entry {
    first_ms: i64,
    parameters: String,
    answer: Option<Answer>,
}

impl Memory {
    /// An empty one, whose answers live this long after the first use of their key.
    pub fn new(life_ms: i64, keys_max: usize) -> Self {
        Self { life_ms, keys_max, entries: HashMap::new(), by_age: VecDeque::new() }
    }
    /// A request with this key begins.
    pub fn begin(&mut self, key: &str, parameters: &str, now_ms: i64) -> Recall {
        self.forget_old(now_ms);
        if let Some(entry) = self.entries.get(key) {
            return match &entry.answer {
                _ if entry.parameters != parameters => Recall::Mismatch,
                Some(answer) => Recall::Replay(answer.clone()),
                None => Recall::Running,
            };
        }
        if self.entries.len() >= self.keys_max {
            return Recall::Full;
        }
        let entry = Entry { first_ms: now_ms, parameters: parameters.to_owned(), answer: None };
        self.entries.insert(key.to_owned(), entry);
        self.by_age.push_back((now_ms, key.to_owned()));
        Recall::Fresh
    }
    /// The request ends: with an answer that is kept, or with none, and then the key is free again.
    pub fn finish(&mut self, key: &str, answer: Option<Answer>) {
        match (self.entries.get_mut(key), answer) {
            (Some(entry), Some(answer)) => entry.answer = Some(answer),
            (Some(_), None) => drop(self.entries.remove(key)),
            (None, _) => {}
        }
    }
    fn forget_old(&mut self, now_ms: i64) {
        while let Some((first_ms, key)) = self.by_age.front() {
            if now_ms.saturating_sub(*first_ms) < self.life_ms {
                return;
            }
            // A key that was freed and used again is younger than this note of it.
            if self.entries.get(key).is_some_and(|entry| entry.first_ms == *first_ms) {
                self.entries.remove(key);
            }
            self.by_age.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        Answer::new(status, format!("{{\"n\":{status}}}"))
    }

    #[test]
    fn the_first_answer_is_kept_until_its_day() {
        let mut memory = Memory::new(1_000, 10);
        assert_eq!(memory.begin("k", "a=1", 0), Recall::Fresh);
        assert_eq!(memory.begin("k", "a=1", 1), Recall::Running);
        memory.finish("k", Some(answer(403)));
        assert_eq!(memory.begin("k", "a=1", 999), Recall::Replay(answer(403)));
        assert_eq!(memory.begin("k", "a=2", 999), Recall::Mismatch);
        assert_eq!(memory.begin("k", "a=2", 1_000), Recall::Fresh, "its life is over");
    }

    #[test]
    fn a_key_without_a_kept_answer_is_free_again() {
        let mut memory = Memory::new(1_000, 1);
        assert_eq!(memory.begin("k", "a=1", 0), Recall::Fresh);
        assert_eq!(memory.begin("other", "", 0), Recall::Full);
        memory.finish("k", None);
        assert_eq!(memory.begin("k", "a=2", 500), Recall::Fresh);
        memory.finish("k", Some(answer(200)));
        assert_eq!(memory.begin("k", "a=2", 1_200), Recall::Replay(answer(200)), "its age counts from the second use");
        memory.finish("never begun", Some(answer(200)));
    }
}
