use super::*;

fn line_of(text: &str, path: &str) -> (usize, usize) {
    match parse(text).unwrap().place(path) {
        Origin::File(mark) => (mark.line, mark.column),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_path_is_found_in_block_and_flow_style() {
    let text = "services:\n  - name: a\n    routes:\n      - paths: [/one, /two]\n";
    assert_eq!(line_of(text, "services[0].routes[0].paths[1]"), (4, 23));
    assert_eq!(line_of(text, "services[0].name"), (2, 11));
    assert_eq!(line_of(text, "services[0].routes"), (3, 5));
}

#[test]
fn a_path_that_is_missing_points_at_its_nearest_parent() {
    assert_eq!(line_of("gateway:\n  cores: 2\n", "gateway.listeners[0].address"), (1, 1));
}

#[test]
fn each_duplicate_key_is_named_with_both_lines() {
    let findings = parse("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n").unwrap_err();
    let paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
    assert_eq!(paths, ["b.c", "a"]);
    assert!(findings[1].hint.as_deref().unwrap().contains("line 1"));
}

#[test]
fn syntax_errors_carry_their_line() {
    let findings = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
    assert_eq!(findings.len(), 1);
    assert!(matches!(findings[0].origin, Origin::File(mark) if mark.line >= 2), "{findings:?}");
}

#[test]
fn aliases_and_merge_keys_are_followed_and_bounded() {
    let root = parse("base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\n").unwrap();
    let other = &root.entry("other").unwrap().value;
    assert_eq!(other.entry("x").unwrap().value.scalar(), Some(Scalar::Int(1)));
    assert_eq!(other.entry("y").unwrap().value.scalar(), Some(Scalar::Int(3)));

    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{list}]\n");
    }
    assert!(parse(&bomb).unwrap_err()[0].message.contains("more than"));
}

/// Each of these asks for much more than its text: of memory, of the stack, or of time.
#[test]
fn no_text_within_the_length_of_a_file_takes_more_than_its_bounds() {
    let refused = |text: &str| {
        assert!(text.len() as u64 <= super::super::load::FILE_BYTES_MAX, "{} bytes", text.len());
        let findings = parse(text).unwrap_err();
        assert_eq!(findings.len(), 1);
        assert!(matches!(findings[0].origin, Origin::File(_)), "{findings:?}");
        findings[0].message.clone()
    };
    // A long text many times: terabytes.
    let long = "x".repeat(4 << 20);
    let texts = format!("a: &a {long}\nb: [{}]\n", ["*a"; 400_000].join(","));
    assert!(refused(&texts).contains("bytes of text"));
    // As a key, too.
    let keys = format!("a: &a\n  ? {}\n  : 1\nb: [{}]\n", "k".repeat(4_000), ["*a"; 100_000].join(","));
    assert!(refused(&keys).contains("bytes of text"));
    assert!(refused(&format!("? {long}\n: 1\n")).contains("keys of more than 4096 bytes"));
    let nested: String =
        (0..5).map(|depth| format!("{}{}:\n", " ".repeat(depth), "k".repeat(1_000))).collect();
    assert!(refused(&nested).contains("keys of more than 4096 bytes"));
    // Names for each level of something large, which is kept under each.
    let many = vec!["1"; 400_000].join(",");
    let names: String = (0..50).map(|level| format!("&a{level} [")).collect();
    assert!(refused(&format!("{names}{many}{}", "]".repeat(50))).contains("values in one file"));
    // Each a little deeper than the one before.
    let deeper: String = (1..200)
        .map(|level| format!("a{level}: &a{level} {}*a{}{}\n", "[".repeat(50), level - 1, "]".repeat(50)))
        .collect();
    assert!(refused(&format!("a0: &a0 1\n{deeper}")).contains("nested more than 64 deep"));
    assert!(refused(&format!("{}{}", "[".repeat(65), "]".repeat(65))).contains("nested more than 64 deep"));
    assert!(!refused(&"[".repeat(1 << 20)).is_empty());
    // Every pair of these would have to be compared.
    let keys: String = (0..200_000).map(|number| format!("k{number}: 1\n")).collect();
    let begun = std::time::Instant::now();
    assert!(parse(&keys).is_ok());
    let merged = format!(
        "a: &a {{{}}}\nb: {{<<: [*a, *a], c: 1}}\n",
        keys[..400 << 10].replace('\n', ",").trim_end_matches(|letter| letter != ',')
    );
    let b = parse(&merged).unwrap().entry("b").unwrap().value.clone();
    assert!(matches!(&b.kind, Kind::Map(entries) if entries.len() > 30_000));
    // The length of the first line of each is looked for in the text.
    let lines: String = (0..200_000).map(|number| format!("k{number}: a\n  b\n")).collect();
    assert!(parse(&lines).is_ok());
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn scalars_follow_the_core_schema() {
    for (text, meaning) in [
        ("12", Scalar::Int(12)),
        ("-3", Scalar::Int(-3)),
        ("0x1f", Scalar::Int(31)),
        ("1.5", Scalar::Float(1.5)),
        ("1e3", Scalar::Float(1000.0)),
        ("yes", Scalar::Text("yes")),
        ("127.0.0.1:80", Scalar::Text("127.0.0.1:80")),
        ("infinity", Scalar::Text("infinity")),
        ("~", Scalar::Null),
        ("TRUE", Scalar::Bool(true)),
    ] {
        assert_eq!(resolve(text), meaning, "{text}");
    }
    assert_eq!(parse("a: '12'").unwrap().entry("a").unwrap().value.scalar(), Some(Scalar::Text("12")));
}

#[test]
fn a_second_document_is_refused() {
    assert!(parse("a: 1\n---\nb: 2\n").unwrap_err()[0].message.contains("second"));
}

#[test]
fn paths_split_into_segments() {
    use Segment::{Index, Key};
    assert_eq!(segments("a[0][1].b"), [Key("a"), Index(0), Index(1), Key("b")]);
    assert_eq!(segments(""), []);
}

#[test]
fn lines_are_those_that_yaml_counts() {
    assert_eq!(lines("a\r\nb\rc\n\nd").collect::<Vec<_>>(), ["a", "b", "c", "", "d"]);
    let Origin::File(mark) = parse("a: 1\rb: [\r").unwrap_err()[0].origin else { panic!("no place") };
    assert!(mark.line >= 2, "{mark:?}");
}
