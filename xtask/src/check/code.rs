//! Rust source with everything blanked that is not code: comments, strings, characters.
//!
//! What is left has the same lines and columns, so that a search for `unsafe` finds no word of a comment.

/// `source` with spaces for all that is not code; the quotes of strings stay.
pub(crate) fn only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' | 'b' | 'c' if !after_word => prefixed_string(rest).unwrap_or(0),
            '\'' => character(rest).unwrap_or(0),
            _ => 0,
        };
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            let (blank, after) = rest.split_at(length);
            code.extend(blank.chars().map(|c| if c == '\n' || c == '"' { c } else { ' ' }));
            rest = after;
        }
    }
    code
}

/// Length of a `/* … */`, which may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    for (at, pair) in text.as_bytes().windows(2).enumerate() {
        match pair {
            b"/*" => depth += 1,
            b"*/" if depth == 1 => return at + 2,
            b"*/" => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a string that begins here with its quote.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a string with a prefix (`b"…"`, `c"…"`, `r#"…"#`), if one begins here.
fn prefixed_string(text: &str) -> Option<usize> {
    let quote = text.find(|c| !"rbc#".contains(c)).filter(|&at| text[at..].starts_with('"'))?;
    let (letters, hashes) = text[..quote].split_at(text.find('#').unwrap_or(quote).min(quote));
    if !letters.contains('r') {
        return hashes.is_empty().then(|| quote + string(&text[quote..]));
    }
    let end = format!("\"{hashes}");
    let body = &text[quote + 1..];
    Some(body.find(&end).map_or(text.len(), |at| quote + 1 + at + end.len()))
}

/// Length of a character literal that begins here; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next()?;
    let (at, second) = chars.next()?;
    match first {
        '\\' => text[at + second.len_utf8()..].find('\'').map(|end| at + second.len_utf8() + end + 1),
        _ => (second == '\'').then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::only;

    #[test]
    fn comments_vanish() {
        assert_eq!(only("a // b\nc"), "a     \nc");
        assert_eq!(only("/// it's\nc"), "        \nc");
        assert_eq!(only("a/* b /* c */ d */e"), "a                 e");
        assert_eq!(only("a /* b\nc"), "a     \n ");
    }

    #[test]
    fn strings_vanish() {
        assert_eq!(only(r#"f("ab", x)"#), r#"f("  ", x)"#);
        assert_eq!(only(r#"f("a\\", x)"#), r#"f("   ", x)"#);
        assert_eq!(only(r##"r#"ab"# c"##), r##"  "  "  c"##);
        assert_eq!(only(r#"b"a" c"#), r#" " " c"#);
        assert_eq!(only(r#"bar"x""#), r#"bar" ""#, "a name that ends like a prefix is none");
        assert_eq!(only("\"a\nb\""), "\" \n \"");
    }

    #[test]
    fn a_quote_in_a_string_does_not_end_it() {
        assert!(!only(r#""a \" unsafe""#).contains("unsafe"));
        assert!(!only(r##"r#"a " unsafe"#"##).contains("unsafe"));
        assert!(only(r#""a" unsafe"#).contains("unsafe"));
    }

    #[test]
    fn characters_vanish_and_lifetimes_stay() {
        assert_eq!(only("'a' 'b"), "    'b");
        assert_eq!(only(r"'\'' '\u{41}' x"), "              x");
        assert_eq!(only("&'a str, '{', y"), "&'a str,    , y");
        assert_eq!(only("'é'z"), "   z");
        assert!(only("'\"' unsafe '\"'").contains("unsafe"));
    }
}
