use super::*;

/// What people and systems may write anywhere.
pub(in crate::web) const HOSTILE: [&str; 3] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</textarea><svg/onload=alert(1)>'\"&",
];

pub(in crate::web) fn look() -> Look {
    Look::of(&HeaderMap::new(), None)
}

/// Nothing of [`HOSTILE`] has become markup.
pub(in crate::web) fn is_harmless(drawn: &str) {
    for begin in ["<script", "<img", "<svg/onload", "</textarea>"] {
        assert!(!drawn.contains(begin), "{begin} in {drawn}");
    }
}
