//! Lists in pages, newest first. A page that follows another one begins where that ended, whatever has come since.

use std::fmt;
use std::str::FromStr;

use super::Error;
use super::resident::deliveries::Spot;

/// The most items of a page.
pub const LIMIT_MAX: usize = 1000;

/// A page of a list, and where the next one begins; none after the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<Place>,
}

/// Where an item stands in a list: by its time (epoch milliseconds), then by the place of its record. As text it is the
/// token that asks for the page behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub at: i64,
    pub partition: i32,
    pub offset: i64,
}

impl Place {
    pub(super) fn spot(self) -> Spot {
        Spot {
            partition: self.partition,
            offset: self.offset,
        }
    }
}

impl<T> Page<T> {
    /// The first items of those that follow, at most `limit`.
    pub(super) fn of(mut items: impl Iterator<Item = (Place, T)>, limit: usize) -> Self {
        let limit = limit.clamp(1, LIMIT_MAX);
        let (mut page, mut last) = (Vec::new(), None);
        for (place, item) in items.by_ref().take(limit) {
            page.push(item);
            last = Some(place);
        }
        Self {
            next: last.filter(|_| items.next().is_some()),
            items: page,
        }
    }

    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(change).collect(),
            next: self.next,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.at, self.partition, self.offset)
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.splitn(3, '.');
        let mut number = || parts.next()?.parse::<i64>().ok();
        let place = (|| {
            Some(Self {
                at: number()?,
                partition: i32::try_from(number()?).ok()?,
                offset: number()?,
            })
        })();
        place.ok_or_else(|| Error::invalid("after: not the `next` of a page; ask for the first page without it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(at: i64) -> Place {
        Place {
            at,
            partition: 2,
            offset: 17,
        }
    }

    #[test]
    fn a_place_is_read_as_it_is_written_and_nothing_else_is() {
        for at in [-5, 0, 1_772_723_760_123] {
            assert_eq!(place(at).to_string().parse(), Ok(place(at)));
        }
        for text in ["", "1", "1.2", "1.2.", "1.2.3.4", "x.2.3", "1.99999999999.3"] {
            assert!(matches!(text.parse::<Place>(), Err(Error::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn a_page_names_the_next_one_where_there_is_more() {
        let items = |count: i64| (0..count).map(|number| (place(-number), number));
        let page = Page::of(items(3), 2);
        assert_eq!((page.items, page.next), (vec![0, 1], Some(place(-1))));
        assert_eq!(Page::of(items(2), 2).next, None);
        assert_eq!(Page::of(items(0), 2).items, Vec::<i64>::new());
        assert_eq!(Page::of(items(3), 0).items.len(), 1);
        assert_eq!(Page::of(items(3000), 5000).items.len(), LIMIT_MAX);
    }
}
