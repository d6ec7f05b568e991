//! The parameters that every list takes (spec 0.3), and paging by them.

use crate::{
    body,
    catalogue::{ApiError, Code},
    time::{Created, Timestamp},
};

/// The page size where the caller gives none.
const LIMIT_DEFAULT: usize = 10;
/// The largest page of most lists.
pub const LIMIT_MAX: usize = 1000;
/// The largest page of the whitelist's list.
pub const WHITELIST_LIMIT_MAX: usize = 500;

/// What to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// When it was made; ties by the order of creation.
    CreatedAt,
    /// When it last changed.
    UpdatedAt,
}

/// A page of a sorted list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// At most so many records; 0 gives an empty page.
    pub limit: usize,
    /// Skip so many.
    pub offset: usize,
    /// What to sort by.
    pub sort_key: SortKey,
    /// Whether the smallest comes first; the default is newest first.
    pub ascending: bool,
}

/// A query string's pairs, decoded. The first of several pairs of one name counts; an empty value is none.
#[derive(Clone, Debug, Default)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
            .filter(|v| !v.is_empty())
    }

    /// A parameter's value as an identifier.
    ///
    /// # Errors
    /// `code` where it is malformed.
    pub fn id<T: std::str::FromStr>(&self, name: &str, code: Code) -> Result<Option<T>, ApiError> {
        let parse = |v: &str| {
            v.parse().map_err(|_| {
                ApiError::because(code, format!("{name}: {} is not well-formed.", body::quote(v)))
            })
        };
        self.get(name).map(parse).transpose()
    }

    /// A `status` filter.
    ///
    /// # Errors
    /// 0019.
    pub fn status<T>(&self, from_wire: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ApiError> {
        let parse = |v: &str| {
            from_wire(v).ok_or_else(|| {
                ApiError::because(Code::E0019, format!("status: {} is no state.", body::quote(v)))
            })
        };
        self.get("status").map(parse).transpose()
    }
}

/// A number that is written in digits and nothing else; one too large for us is the largest that there is.
pub(crate) fn digits(text: &str) -> Option<usize> {
    let written = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    written.then(|| text.parse().unwrap_or(usize::MAX))
}

impl Listing {
    /// Reads `limit`, `offset`, `sort_key` and `sort_dir`.
    ///
    /// # Errors
    /// 0006, 0010, 0017, 0018.
    pub fn parse(query: &Query, limit_max: usize, only_created: bool) -> Result<Self, ApiError> {
        let limit = match query.get("limit") {
            None => LIMIT_DEFAULT,
            Some(v) => digits(v).filter(|n| *n <= limit_max).ok_or_else(|| {
                ApiError::because(
                    Code::E0006,
                    format!("limit: {} is not an integer in 0..={limit_max}.", body::quote(v)),
                )
            })?,
        };
        let offset = match query.get("offset") {
            None => 0,
            Some(v) => digits(v).ok_or_else(|| {
                ApiError::because(
                    Code::E0010,
                    format!("offset: {} is not an integer of at least 0.", body::quote(v)),
                )
            })?,
        };
        let sort_key = match query.get("sort_key") {
            None | Some("created_at" | "create_at") => SortKey::CreatedAt,
            Some("updated_at" | "update_at") if !only_created => SortKey::UpdatedAt,
            Some(v) => {
                return Err(ApiError::because(
                    Code::E0017,
                    format!("sort_key: {} is not a key of this list.", body::quote(v)),
                ));
            }
        };
        let ascending = match query.get("sort_dir") {
            None | Some("desc") => false,
            Some("asc") => true,
            Some(v) => {
                return Err(ApiError::because(
                    Code::E0018,
                    format!("sort_dir: {} is neither asc nor desc.", body::quote(v)),
                ));
            }
        };
        Ok(Self {
            limit,
            offset,
            sort_key,
            ascending,
        })
    }

    /// Sorts `items` and cuts out the page. `key` gives an item's creation mark and its last change.
    ///
    /// Ties within a second go by the order of creation in the direction of the sort (spec semantics 21, row 2).
    pub fn page<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> (Created, Timestamp)) -> Vec<T> {
        match self.sort_key {
            SortKey::CreatedAt => items.sort_by_key(|i| key(i).0.order),
            SortKey::UpdatedAt => items.sort_by_key(|i| (key(i).1, key(i).0.order)),
        }
        if !self.ascending {
            items.reverse();
        }
        items.into_iter().skip(self.offset).take(self.limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query(
            pairs
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect(),
        )
    }

    fn code(pairs: &[(&str, &str)]) -> Code {
        Listing::parse(&query(pairs), LIMIT_MAX, false).unwrap_err().code
    }

    #[test]
    fn every_parameter_has_its_code() {
        for bad in ["-1", "1001", "x", "1.5", " 1", "+1", "99999999999999999999"] {
            assert_eq!(code(&[("limit", bad)]), Code::E0006, "{bad}");
        }
        for bad in ["-1", "x", "1.5", "+1"] {
            assert_eq!(code(&[("offset", bad)]), Code::E0010, "{bad}");
        }
        assert_eq!(code(&[("sort_key", "name")]), Code::E0017);
        assert_eq!(code(&[("sort_dir", "DESC")]), Code::E0018);
        let ok = Listing::parse(
            &query(&[
                ("limit", "0"),
                ("offset", "99999999999999999999"),
                ("sort_key", "update_at"),
                ("sort_dir", "asc"),
            ]),
            LIMIT_MAX,
            false,
        );
        assert_eq!(
            ok,
            Ok(Listing {
                limit: 0,
                offset: usize::MAX,
                sort_key: SortKey::UpdatedAt,
                ascending: true
            })
        );
        assert_eq!(
            Listing::parse(&query(&[("sort_key", "updated_at")]), 500, true)
                .unwrap_err()
                .code,
            Code::E0017
        );
    }

    #[test]
    fn an_empty_parameter_is_none() {
        let listing = Listing::parse(&query(&[("limit", ""), ("sort_dir", "")]), LIMIT_MAX, false).unwrap();
        assert_eq!((listing.limit, listing.ascending), (10, false));
    }

    #[test]
    fn ties_go_by_creation_in_the_direction_of_the_sort() {
        let mark = |order| Created {
            order,
            at: Timestamp::from_unix_s(1),
        };
        let items = vec![
            (mark(2), Timestamp::from_unix_s(9)),
            (mark(1), Timestamp::from_unix_s(9)),
            (mark(3), Timestamp::from_unix_s(8)),
        ];
        let orders = |pairs: &[(&str, &str)]| {
            let listing = Listing::parse(&query(pairs), LIMIT_MAX, false).unwrap();
            listing
                .page(items.clone(), |i| *i)
                .iter()
                .map(|i| i.0.order)
                .collect::<Vec<_>>()
        };
        assert_eq!(orders(&[]), [3, 2, 1]);
        assert_eq!(orders(&[("sort_dir", "asc")]), [1, 2, 3]);
        assert_eq!(orders(&[("sort_key", "updated_at")]), [2, 1, 3]);
        assert_eq!(
            orders(&[("sort_key", "updated_at"), ("sort_dir", "asc")]),
            [3, 1, 2]
        );
        assert_eq!(orders(&[("offset", "1"), ("limit", "1")]), [2]);
        assert_eq!(orders(&[("offset", "7")]), [0u64; 0]);
    }
}
