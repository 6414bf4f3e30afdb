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
