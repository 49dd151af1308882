//! Lists: newest first, by pages of 1 to 100, continued after the last id of a page.

use super::error::Refusal;
use super::form::Params;
use crate::clock::unix_s;

/// What a list asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    limit: usize,
    after: Option<String>,
    /// Whole seconds, both ends included.
    created: (i64, i64),
}

impl Page {
    /// Takes `limit`, `starting_after` and `created`.
    ///
    /// # Errors
    /// When one of them is wrong.
    pub fn read(params: &mut Params) -> Result<Self, Refusal> {
        let limit = params.take_number("limit", 1, 100)?.unwrap_or(10);
        let after = params.take("starting_after");
        let mut created = (i64::MIN, i64::MAX);
        let bound = |params: &mut Params, name: &str| params.take_number(name, 0, i64::from(u32::MAX));
        if let Some(at) = bound(params, "created")? {
            created = (at, at);
        }
        created.0 = created.0.max(bound(params, "created[gte]")?.unwrap_or(i64::MIN));
        created.0 = created.0.max(bound(params, "created[gt]")?.map_or(i64::MIN, |at| at + 1));
        created.1 = created.1.min(bound(params, "created[lte]")?.unwrap_or(i64::MAX));
        created.1 = created.1.min(bound(params, "created[lt]")?.map_or(i64::MAX, |at| at - 1));
        Ok(Self { limit: usize::try_from(limit).unwrap_or(10), after, created })
    }
    /// One page of things that come newest first, and whether there are more.
    ///
    /// # Errors
    /// When the page continues after something that is not in the list.
    pub fn cut<'t, T>(
        &self,
        newest_first: impl Iterator<Item = &'t T>,
        id: impl Fn(&T) -> &str,
        created_ms: impl Fn(&T) -> i64,
    ) -> Result<(Vec<&'t T>, bool), Refusal> {
        let mut list = newest_first;
        if let Some(after) = &self.after
            && !list.by_ref().any(|thing| id(thing) == after)
        {
            return Err(Refusal::no_such("object", after, "starting_after"));
        }
        let within = |thing: &&T| (self.created.0..=self.created.1).contains(&unix_s(created_ms(thing)));
        let mut page: Vec<&T> = list.filter(within).take(self.limit + 1).collect();
        let more = page.len() > self.limit;
        page.truncate(self.limit);
        Ok((page, more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Result<(Vec<i64>, bool), Refusal> {
        let mut params = Params::read(query.as_bytes()).unwrap();
        let page = Page::read(&mut params)?;
        params.finish()?;
        let things: Vec<(String, i64)> = (0..30).rev().map(|n| (format!("id_{n}"), n)).collect();
        let (cut, more) = page.cut(things.iter(), |t| &t.0, |t| t.1 * 1_000)?;
        Ok((cut.into_iter().map(|t| t.1).collect(), more))
    }

    #[test]
    fn pages_follow_each_other_without_gaps() {
        assert_eq!(page("").unwrap(), ((20..30).rev().collect(), true));
        assert_eq!(page("limit=20&starting_after=id_20").unwrap(), ((0..20).rev().collect(), false));
        assert_eq!(page("created[gte]=27").unwrap(), (vec![29, 28, 27], false));
        assert_eq!(page("created[gt]=5&created[lt]=8&limit=1").unwrap(), (vec![7], true));
        for bad in ["limit=0", "limit=101", "starting_after=id_99", "page=2", "created[gte]=x"] {
            assert!(page(bad).is_err(), "{bad}");
        }
    }
}
