//! The classes of attack, as bytes. Each one's own target is `/attack`; what it would smuggle asks for `/smuggled`.

/// Behind every attack that lies about where it ends.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.com\r\n\r\n";

/// A request that must be refused.
#[derive(Debug)]
pub struct Attack {
    pub class: &'static str,
    pub bytes: Vec<u8>,
    pub status: u16,
}

/// Every attack that is refused by its syntax.
pub fn attacks() -> Vec<Attack> {
    let mut all = Vec::new();
    framings(&mut all);
    chunks(&mut all);
    syntax(&mut all);
    hosts(&mut all);
    all
}

fn post(all: &mut Vec<Attack>, class: &'static str, lines: &str, body: &str) {
    let text = format!("POST /attack HTTP/1.1\r\nHost: a.com\r\n{lines}\r\n{body}{SMUGGLED}");
    all.push(Attack { class, bytes: text.into_bytes(), status: 400 });
}

fn framings(all: &mut Vec<Attack>) {
    for body in ["0\r\n\r\n", "", "5\r\nhello\r\n0\r\n\r\n"] {
        post(all, "CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", body);
        post(all, "CL.TE", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", body);
        post(all, "TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", body);
        post(all, "TE.CL", "transfer-encoding: CHUNKED\r\nX: y\r\ncontent-length: 40\r\n", body);
    }
    for coding in [
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "identity, chunked",
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        "chunked;q=1",
        "\tchunked",
        "chunked ",
        "chunked\t",
        "\u{b}chunked",
        "\u{c}chunked",
        "\"chunked\"",
        "'chunked'",
        "chun\0ked",
        "chunked\0",
        "chunked,",
        ",chunked",
        "",
        " ",
        "chünked",
        "\u{a0}chunked",
    ] {
        post(all, "TE.TE", &format!("Transfer-Encoding: {coding}\r\n"), "0\r\n\r\n");
        post(
            all,
            "TE.TE",
            &format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: {coding}\r\n"),
            "0\r\n\r\n",
        );
        post(
            all,
            "TE.TE",
            &format!("Transfer-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n"),
            "0\r\n\r\n",
        );
    }
    for line in [
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding:\n chunked\r\n",
        "Transfer-Encoding\r\n: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\0Transfer-Encoding: chunked\r\n",
        "Transfer\u{b}Encoding: chunked\r\n",
        "Transfer Encoding: chunked\r\n",
        "Transfer-Encoding\0: chunked\r\n",
        "Content-Length : 5\r\n",
        "Content-Length\t:5\r\n",
        "Content Length: 5\r\n",
    ] {
        post(all, "hidden framing", line, "0\r\n\r\n");
    }
    for (one, two) in [("0", "0"), ("5", "5"), ("0", "5"), ("5", "0"), ("05", "5"), ("5", ""), ("", "5")] {
        post(all, "duplicate length", &format!("Content-Length: {one}\r\nContent-Length: {two}\r\n"), "");
        post(
            all,
            "duplicate length",
            &format!("Content-Length: {one}\r\nX: y\r\ncontent-length: {two}\r\n"),
            "",
        );
        post(all, "duplicate length", &format!("Content-Length: {one}, {two}\r\n"), "");
    }
    for length in [
        "+5",
        "-1",
        "-0",
        "0x5",
        "5h",
        "00",
        "05",
        "5 5",
        "5,",
        ",5",
        "5.0",
        "5e0",
        "1_0",
        "\"5\"",
        "",
        " ",
        "٥",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "\u{b}5",
        "5\u{c}",
        "5\0",
    ] {
        post(all, "malformed length", &format!("Content-Length: {length}\r\n"), "");
    }
    for lines in ["", "Host: a.com\r\n", "Connection: keep-alive\r\n"] {
        let text =
            format!("POST /attack HTTP/1.0\r\n{lines}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
        all.push(Attack { class: "TE in HTTP/1.0", bytes: text.into_bytes(), status: 400 });
    }
}

fn chunks(all: &mut Vec<Attack>) {
    for body in [
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "5;\n\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5h\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\n\r",
        "5\r\nhello\r\n0;x\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5\r\nhello\r\n-0\r\n\r\n",
        "5\r\nhello\r\n0x0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "8000000000000000\r\nhello\r\n0\r\n\r\n",
        "\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "g\r\n",
        "5\0\r\nhello\r\n0\r\n\r\n",
        "0\r\nContent-Length: 9\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nHost: b.com\r\n\r\n",
        "0\r\nAuthorization: x\r\n\r\n",
        "0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
        "0\r\nX: y\r\n folded\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\nX: \0\r\n\r\n",
        "0\r\nX: y\n\r\n",
    ] {
        post(all, "chunk syntax", "Transfer-Encoding: chunked\r\n", body);
    }
}

fn syntax(all: &mut Vec<Attack>) {
    let mut add = |class: &'static str, text: String, status: u16| {
        all.push(Attack { class, bytes: text.into_bytes(), status });
    };
    for line in [
        "GET /attack HTTP/1.1\n",
        "GET /attack HTTP/1.1\r",
        "GET /attack HTTP/1.1\0\r\n",
        "GET  /attack HTTP/1.1\r\n",
        "GET\t/attack HTTP/1.1\r\n",
        "GET /attack\tHTTP/1.1\r\n",
        "GET /attack  HTTP/1.1\r\n",
        "GET /attack HTTP/1.1 \r\n",
        " GET /attack HTTP/1.1\r\n",
        "GET /attack\r\n",
        "GET /attack HTTP/1.2\r\n",
        "GET /attack HTTP/2.0\r\n",
        "GET /attack HTTP/0.9\r\n",
        "GET /attack HTTP/1.10\r\n",
        "GET /attack HTTP/1,1\r\n",
        "GET /attack http/1.1\r\n",
        "GET /attack HTTP/ 1.1\r\n",
        "GET /att ack HTTP/1.1\r\n",
        "GET /attack#x HTTP/1.1\r\n",
        "GET /attack\0 HTTP/1.1\r\n",
        "GET /attack\u{7f} HTTP/1.1\r\n",
        "GET /attäck HTTP/1.1\r\n",
        "GET attack HTTP/1.1\r\n",
        "GET ?attack HTTP/1.1\r\n",
        "GET ftp://a.com/attack HTTP/1.1\r\n",
        "GET a.com/attack HTTP/1.1\r\n",
        "G(T /attack HTTP/1.1\r\n",
        "GET/attack HTTP/1.1\r\n",
        "G\0T /attack HTTP/1.1\r\n",
        "GET\u{b}/attack HTTP/1.1\r\n",
        "\r\n\r\nGET /attack HTTP/1.1\r\n",
        "\nGET /attack HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n",
        "\u{16}\u{3}\u{1}\r\n",
    ] {
        add("request line", format!("{line}Host: a.com\r\n\r\n{SMUGGLED}"), 400);
    }
    for lines in [
        " Host: a.com\r\n",
        "\tHost: a.com\r\n",
        "Host: a.com\r\nX: y\r\n folded\r\n",
        "Host: a.com\r\nX: y\r\n\tfolded\r\n",
        "Host: a.com\r\nX:\r\n y\r\n",
        "Host : a.com\r\n",
        "Host: a.com\r\nX : y\r\n",
        "Host: a.com\r\nX\t: y\r\n",
        "Host: a.com\n",
        "Host: a.com\r",
        "Host: a.com\r\nX: y\rz\r\n",
        "Host: a.com\r\nX: y\nz: 1\r\n",
        "Host: a.com\r\nX: \0\r\n",
        "Host: a.com\r\nX: y\u{8}\r\n",
        "Host: a.com\r\nX: \u{7f}\r\n",
        "Host: a.com\r\n: y\r\n",
        "Host: a.com\r\nno colon\r\n",
        "Host: a.com\r\nX\0: y\r\n",
        "Host: a.com\r\n(X): y\r\n",
        "Host: a.com\r\nX[]: y\r\n",
        "Host: a.com\r\nÄ: y\r\n",
        "Host: a.com\r\n\"X\": y\r\n",
        "Host: a.com\r\n=X: y\r\n",
    ] {
        add("header line", format!("GET /attack HTTP/1.1\r\n{lines}\r\n{SMUGGLED}"), 400);
    }
    add("CONNECT", format!("CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\n\r\n{SMUGGLED}"), 405);
    add("CONNECT", format!("CONNECT /attack HTTP/1.1\r\nHost: a.com\r\n\r\n{SMUGGLED}"), 405);
    add("asterisk", format!("GET * HTTP/1.1\r\nHost: a.com\r\nX: attack\r\n\r\n{SMUGGLED}"), 400);
    add("asterisk", format!("OPTIONS ** HTTP/1.1\r\nHost: a.com\r\nX: attack\r\n\r\n{SMUGGLED}"), 400);
}

fn hosts(all: &mut Vec<Attack>) {
    let mut add = |text: String| {
        all.push(Attack { class: "Host", bytes: format!("{text}\r\n{SMUGGLED}").into_bytes(), status: 400 });
    };
    add("GET /attack HTTP/1.1\r\n".into());
    add("GET /attack HTTP/1.1\r\nX-Host: a.com\r\n".into());
    add("GET http://a.com/attack HTTP/1.1\r\n".into());
    for second in ["a.com", "b.com", ""] {
        add(format!("GET /attack HTTP/1.1\r\nHost: a.com\r\nHost: {second}\r\n"));
        add(format!("GET /attack HTTP/1.1\r\nHost: a.com\r\nX: y\r\nhost: {second}\r\n"));
    }
    for host in [
        "",
        " ",
        "u@a.com",
        "u:p@a.com",
        "a.com/x",
        "a.com?x",
        "a.com#x",
        "a.com b.com",
        "a.com,b.com",
        "a.com, b.com",
        "a.com:x",
        "a.com:",
        "a.com:0",
        "a.com:080",
        "a.com:99999",
        "a.com:-1",
        "a.com:80:80",
        "[::1",
        "::1",
        "[::g]",
        "[::1]x",
        "[]",
        "a\\b",
        ".a.com",
        "a..com",
        ".",
        "..",
        "a%2ecom",
        "a.com%00",
        "ä.com",
        "a.com\t.b",
        "a_b@c",
        "http://a.com",
        "//a.com",
        "a.com|b",
        "a.com\0",
        "a.com;b",
        "{a}",
        "*",
        "*.com",
        "a.com'",
    ] {
        add(format!("GET /attack HTTP/1.1\r\nHost: {host}\r\n"));
    }
    for (target, host) in [
        ("http://b.com/attack", "a.com"),
        ("http://a.com:81/attack", "a.com"),
        ("http://a.com/attack", "a.com:81"),
        ("https://a.com/attack", "a.com:80"),
        ("http://u@a.com/attack", "a.com"),
        ("http://a.com@b.com/attack", "b.com"),
        ("http:///attack", "a.com"),
        ("http://", "a.com"),
        ("http://a.com\\@b.com/attack", "a.com"),
        ("http://a.com:/attack", "a.com"),
        ("http:/a.com/attack", "a.com"),
        ("HTTP:a.com/attack", "a.com"),
        ("ws://a.com/attack", "a.com"),
        ("file:///attack", "a.com"),
    ] {
        add(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n"));
    }
}
