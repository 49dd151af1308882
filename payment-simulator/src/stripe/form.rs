//! Form-encoded parameters with brackets: `metadata[order]=1`, `created[gte]=2`, `expand[]=x`. Each call takes what it
//! knows; what is left over is an unknown parameter, which the provider refuses.

use super::error::Refusal;
use std::collections::BTreeMap;

/// The most parameters of one request.
const PARAMETERS_MAX: usize = 200;

/// Parameters that nobody has taken yet.
#[derive(Debug, Clone, Default)]
pub struct Params {
    left: BTreeMap<String, String>,
}

impl Params {
    /// Reads a body or a query string.
    ///
    /// # Errors
    /// When there are too many.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut left = BTreeMap::new();
        for (n, (name, value)) in form_urlencoded::parse(bytes).enumerate() {
            if n >= PARAMETERS_MAX {
                return Err(Refusal::invalid("Too many parameters.", ""));
            }
            // A list without numbers gets them, so that no member is lost.
            let name = match name.strip_suffix("[]") {
                Some(list) => format!("{list}[{n:03}]"),
                None => name.into_owned(),
            };
            left.insert(name, value.into_owned());
        }
        Ok(Self { left })
    }
    /// The same parameters always as the same text.
    pub fn fingerprint(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.left).finish()
    }
    /// A parameter; empty is the provider's way to say "none".
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.left.remove(name).filter(|value| !value.is_empty())
    }
    /// A parameter of an allowed list.
    ///
    /// # Errors
    /// When it is another one.
    pub fn take_one_of(&mut self, name: &str, allowed: &[&'static str]) -> Result<Option<&'static str>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let known = allowed.iter().find(|known| **known == value).copied();
        let rule = || Refusal::invalid(&format!("Invalid {name}: must be one of {}", allowed.join(", ")), name);
        known.map(Some).ok_or_else(rule)
    }
    /// A whole number within bounds.
    ///
    /// # Errors
    /// When it is none.
    pub fn take_number(&mut self, name: &str, min: i64, max: i64) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.parse::<i64>().map_err(|_| Refusal::invalid(&format!("Invalid integer: {value}"), name))?;
        if (min..=max).contains(&number) {
            return Ok(Some(number));
        }
        let code = if number < min { "parameter_invalid_integer" } else { "amount_too_large" };
        Err(Refusal::invalid(&format!("{name} must be from {min} to {max}"), name).with_code(code))
    }
    /// `true` or `false`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn take_bool(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        Ok(self.take_one_of(name, &["true", "false"])?.map(|value| value == "true"))
    }
    /// All of `name[…]`, by what is in the brackets.
    pub fn take_group(&mut self, name: &str) -> BTreeMap<String, String> {
        let prefix = format!("{name}[");
        let keys: Vec<String> = self.left.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
        keys.into_iter()
            .filter_map(|key| {
                let value = self.left.remove(&key)?;
                Some((key.strip_prefix(&prefix)?.strip_suffix(']')?.to_owned(), value))
            })
            .collect()
    }
    /// The provider's metadata: up to 50 pairs, names up to 40 and values up to 500 characters.
    ///
    /// # Errors
    /// When it is larger.
    pub fn take_metadata(&mut self) -> Result<BTreeMap<String, String>, Refusal> {
        let metadata = self.take_group("metadata");
        let fits = |(name, value): (&String, &String)| name.chars().count() <= 40 && value.chars().count() <= 500;
        if metadata.len() <= 50 && metadata.iter().all(fits) {
            Ok(metadata)
        } else {
            Err(Refusal::invalid("Metadata has at most 50 pairs of 40 and 500 characters.", "metadata"))
        }
    }
    /// Nothing may be left over.
    ///
    /// # Errors
    /// Names the first parameter that nobody knows.
    pub fn finish(self) -> Result<(), Refusal> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(Refusal::invalid(&format!("Received unknown parameter: {name}"), name)
                    .with_code("parameter_unknown"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_groups_and_leftovers_are_refused() {
        let mut params = Params::read(b"amount=100&metadata%5Border%5D=o-1&expand[]=a&expand[]=b&empty=").unwrap();
        assert_eq!(params.take_number("amount", 1, 1_000).unwrap(), Some(100));
        assert_eq!(params.take_metadata().unwrap(), BTreeMap::from([("order".to_owned(), "o-1".to_owned())]));
        assert_eq!(params.take_group("expand").into_values().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(params.take("empty"), None);
        assert!(params.clone().finish().is_ok());
        let unknown = Params::read(b"amuont=1").unwrap().finish().unwrap_err();
        assert_eq!((unknown.code, unknown.param.as_deref()), (Some("parameter_unknown"), Some("amuont")));
    }

    #[test]
    fn the_order_of_parameters_means_nothing() {
        let print = |text: &[u8]| Params::read(text).unwrap().fingerprint();
        assert_eq!(print(b"a=1&b=2"), print(b"b=2&a=1"));
        assert_ne!(print(b"a=1&b=2"), print(b"a=1&b=3"));
    }

    #[test]
    fn numbers_are_whole_and_bounded() {
        for bad in ["amount=1.5", "amount=x", "amount=0", "amount=1001"] {
            assert!(Params::read(bad.as_bytes()).unwrap().take_number("amount", 1, 1_000).is_err(), "{bad}");
        }
    }
}
