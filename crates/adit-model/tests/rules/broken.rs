//! A table of rules, tested as its specification means it: each rule alone, and the order of all.

use adit_model::{ApiError, Code};
use proptest::{prelude::*, test_runner::TestRunner};

/// One way to break one rule of a table, in a request (and what it meets) of type `W`.
pub(crate) struct Breaker<W> {
    /// The row, and after the point the part of the row, where the row has several codes.
    pub(crate) row: (u8, u8),
    /// What the rule answers.
    pub(crate) code: Code,
    /// What the message names: the field, the offending value.
    pub(crate) says: Vec<String>,
    /// Breaks the rule and leaves what the other rules look at alone, as far as it can.
    pub(crate) apply: Box<dyn Fn(&mut W)>,
}

impl<W> Breaker<W> {
    pub(crate) fn new(row: (u8, u8), code: Code, says: &[&str], apply: impl Fn(&mut W) + 'static) -> Self {
        Self {
            row,
            code,
            says: says.iter().map(|s| (*s).to_owned()).collect(),
            apply: Box::new(apply),
        }
    }

    fn check(&self, found: Result<(), ApiError>, with: &str) {
        let Self { row, code, says, .. } = self;
        let Err(error) = found else {
            panic!("row {row:?} ({code}, {says:?}) broken{with}: nothing is refused");
        };
        assert_eq!(error.code, *code, "row {row:?}{with}: {error}");
        assert!(error.message.starts_with(code.message()), "row {row:?}: {error}");
        for text in says {
            assert!(
                error.message.contains(text),
                "row {row:?}{with}: {error} lacks {text:?}"
            );
        }
    }
}

/// Each breaker alone raises its code; two of different rows raise the earlier row's, and so does any set of them.
pub(crate) fn check_table<W>(
    base: impl Fn() -> W,
    breakers: &[Breaker<W>],
    run: impl Fn(&W) -> Result<(), ApiError>,
) {
    assert_eq!(run(&base()), Ok(()), "the base breaks a rule");
    for (i, first) in breakers.iter().enumerate() {
        let mut world = base();
        (first.apply)(&mut world);
        first.check(run(&world), "");
        for second in breakers[i..].iter().filter(|b| b.row > first.row) {
            let mut world = base();
            // The earlier rule is broken last: where both touch one field, it is broken for sure.
            (second.apply)(&mut world);
            (first.apply)(&mut world);
            first.check(run(&world), &format!(", with {:?} ({})", second.row, second.code));
        }
    }
    let rows: Vec<_> = breakers.iter().map(|b| b.row).collect();
    assert!(rows.is_sorted(), "breakers stand in the order of the table");
    let sets = prop::collection::btree_set(0..breakers.len(), 1..8);
    let mut runner = TestRunner::deterministic();
    runner
        .run(&sets, |set| {
            let mut world = base();
            for i in set.iter().rev() {
                (breakers[*i].apply)(&mut world);
            }
            let first = set.first().map(|i| &breakers[*i]).unwrap();
            first.check(run(&world), &format!(", with the breakers {set:?}"));
            Ok(())
        })
        .unwrap();
}

/// A change that breaks no rule, with what it is.
pub(crate) type Change<W> = (&'static str, Box<dyn Fn(&mut W)>);

/// Every change of the list, made alone, is refused by nothing.
pub(crate) fn check_boundaries<W>(
    base: impl Fn() -> W,
    changes: Vec<Change<W>>,
    run: impl Fn(&W) -> Result<(), ApiError>,
) {
    for (what, change) in changes {
        let mut world = base();
        change(&mut world);
        assert_eq!(run(&world), Ok(()), "{what}");
    }
}
