//! A second opinion: HTTP/1 messages read to the letter of RFC 9112, by code that shares nothing with the gateway's.
//! It judges what a client sends (and so foretells what the gateway must do with it), what arrives behind the
//! gateway, and what the gateway answers.

/// Longest body of the gateways under test; a longer one that is announced is answered 413.
pub const BODY_BYTES_MAX: u64 = 64 << 10;
/// Longest chunk, as the gateway's default has it.
const CHUNK_BYTES_MAX: u64 = 1 << 40;
/// Most header lines, as the gateway's default has it.
const FIELDS_MAX: usize = 100;

/// Names in lower case, values without the white space around them.
pub type Fields = Vec<(String, Vec<u8>)>;

/// The value of the first field of this name.
pub fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.0 == name).map(|field| field.1.as_slice())
}

/// All values of this name.
pub fn all<'a>(fields: &'a Fields, name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|field| field.0 == name).map(|field| field.1.as_slice()).collect()
}

/// A request that is there whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub old: bool,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// Whether the client would send another one after it.
    pub keeps: bool,
    /// Whether an empty line stood before it.
    pub led: bool,
    /// Where it ends.
    pub end: usize,
}

/// What comes after the last whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Nothing, or nothing that counts: the last request ends the connection.
    None,
    /// A head that is not there whole.
    InHead,
    /// A body that is not there whole, of a request with this method and target.
    InBody(String, String),
    /// A body that is announced to be longer than allowed.
    TooLarge,
    /// What breaks a rule in a head.
    BadHead(&'static str),
    /// What breaks a rule in a body.
    BadBody(&'static str, String, String),
}

/// Why a line or a message does not go on.
enum Stop {
    More,
    Bad(&'static str),
}

type Step<T> = Result<T, Stop>;

fn bad<T>(why: &'static str) -> Step<T> {
    Err(Stop::Bad(why))
}

/// The line at `at`, without its CRLF, and where the next begins.
fn line(bytes: &[u8], at: usize) -> Step<(&[u8], usize)> {
    for (index, byte) in bytes.iter().enumerate().skip(at) {
        match byte {
            b'\r' => {
                return match bytes.get(index + 1) {
                    Some(b'\n') => Ok((&bytes[at..index], index + 2)),
                    Some(_) => bad("a carriage return alone"),
                    None => Err(Stop::More),
                };
            }
            b'\t' => {}
            0..=0x1f | 0x7f => return bad("a control byte"),
            _ => {}
        }
    }
    Err(Stop::More)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Field lines up to the empty one, values untrimmed.
fn fields(bytes: &[u8], mut at: usize) -> Step<(Fields, usize)> {
    let mut fields = Vec::new();
    loop {
        let (line, next) = line(bytes, at)?;
        at = next;
        if line.is_empty() {
            return Ok((fields, at));
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return bad("no colon") };
        if colon == 0 || !line[..colon].iter().all(|byte| is_token(*byte)) {
            return bad("a field name that is no token");
        }
        if fields.len() == FIELDS_MAX {
            return bad("too many fields");
        }
        fields.push((text(&line[..colon]).to_ascii_lowercase(), line[colon + 1..].to_vec()));
    }
}

/// Host and port of an authority, the host in lower case without a final dot.
fn authority(value: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match value.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (format!("[{address}]"), rest)
        }
        None => {
            let (host, port) = value.split_at(value.find(':').unwrap_or(value.len()));
            let labels = host.strip_suffix('.').unwrap_or(host);
            let letters = |label: &str| {
                !label.is_empty()
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            };
            if host.len() > 254 || !labels.split('.').all(letters) {
                return None;
            }
            (labels.to_ascii_lowercase(), port)
        }
    };
    if port.is_empty() {
        return Some((host, None));
    }
    let digits = port.strip_prefix(':')?;
    let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((host, Some(digits.parse().ok().filter(|_| plain)?)))
}

struct Line {
    method: String,
    target: String,
    old: bool,
    /// Authority of an absolute-form target, and the default port of its scheme.
    absolute: Option<(String, u16)>,
}

fn request_line(line: &[u8]) -> Step<Line> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return bad("not three words");
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return bad("the method is no token");
    }
    let of_target = |byte: &u8| (0x21..0x7f).contains(byte) && !b"\"#<>`".contains(byte);
    if target.is_empty() || !target.iter().all(of_target) {
        return bad("a byte that no target has");
    }
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return bad("the version"),
    };
    let (method, target) = (text(method), text(target));
    if method == "CONNECT" {
        return bad("CONNECT");
    }
    let lower = target.to_ascii_lowercase();
    let absolute = if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        None
    } else {
        let (skipped, port) = if lower.starts_with("http://") {
            (7, 80)
        } else if lower.starts_with("https://") {
            (8, 443)
        } else {
            return bad("the form of the target");
        };
        let name = target[skipped..].split(['/', '?']).next().unwrap_or_default();
        if authority(name).is_none() {
            return bad("the authority of the target");
        }
        Some((name.to_owned(), port))
    };
    Ok(Line { method, target, old, absolute })
}

/// How a body is framed.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Sized(u64),
    Chunked,
}

/// Reads the fields of a request that frame and route it.
fn judge(line: &Line, fields: &Fields) -> Step<Framing> {
    let hosts = all(fields, "host");
    match (hosts.as_slice(), line.old) {
        ([], false) => return bad("no Host"),
        ([_, _, ..], _) => return bad("several Hosts"),
        _ => {}
    }
    if let Some(host) = hosts.first() {
        let Some(host) = authority(&text(trim(host))) else { return bad("a malformed Host") };
        if let Some((name, port)) = &line.absolute {
            let Some(target) = authority(name) else { return bad("the authority of the target") };
            if (&target.0, target.1.unwrap_or(*port)) != (&host.0, host.1.unwrap_or(*port)) {
                return bad("a Host that is not the target's");
            }
        }
    }
    let (lengths, codings) = (all(fields, "content-length"), all(fields, "transfer-encoding"));
    let length = match lengths.as_slice() {
        [] => None,
        [one] => {
            let digits = text(trim(one));
            let plain = digits == "0" || !digits.starts_with(['0', '+']);
            let number = digits.parse::<u64>().ok().filter(|number| plain && *number <= u64::MAX - 2);
            if number.is_none() {
                return bad("a malformed Content-Length");
            }
            number
        }
        _ => return bad("several Content-Lengths"),
    };
    match (codings.as_slice(), length) {
        ([], length) => Ok(Framing::Sized(length.unwrap_or(0))),
        ([_], None) if line.old => bad("an encoding in HTTP/1.0"),
        ([coding], None) => {
            let start = coding.iter().take_while(|byte| **byte == b' ').count();
            if coding[start..].eq_ignore_ascii_case(b"chunked") {
                Ok(Framing::Chunked)
            } else {
                bad("an encoding that is not chunked")
            }
        }
        ([_], Some(_)) => bad("both framings"),
        _ => bad("several encodings"),
    }
}

/// Trailer fields that would come after what they say was acted on.
const LATE: &str = "transfer-encoding content-length host connection keep-alive proxy-connection upgrade te trailer \
    expect max-forwards content-encoding content-type content-range authorization proxy-authorization \
    proxy-authenticate www-authenticate cookie set-cookie cache-control pragma range if-match if-none-match \
    if-modified-since if-unmodified-since if-range age vary forwarded x-forwarded-for x-forwarded-proto \
    x-forwarded-host x-forwarded-port x-forwarded-prefix x-real-ip";

/// A chunked body: its bytes, its trailers, and where it ends.
fn chunks(bytes: &[u8], mut at: usize) -> Step<(Vec<u8>, Fields, usize)> {
    let mut body = Vec::new();
    loop {
        let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > 16 {
            return bad("a chunk size beyond 64 bits");
        }
        match bytes.get(at + digits..at + digits + 2) {
            Some(b"\r\n") if digits > 0 => {}
            Some(_) => return bad("a chunk size"),
            None => match bytes.get(at + digits) {
                None => return Err(Stop::More),
                Some(b'\r') if digits > 0 => return Err(Stop::More),
                Some(_) => return bad("a chunk size"),
            },
        }
        let size = u64::from_str_radix(&text(&bytes[at..at + digits]), 16).unwrap();
        if size > CHUNK_BYTES_MAX {
            return bad("a chunk beyond the bound");
        }
        at += digits + 2;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).unwrap();
        let Some(data) = bytes.get(at..at + size) else { return Err(Stop::More) };
        body.extend_from_slice(data);
        at += size;
        match &bytes[at..bytes.len().min(at + 2)] {
            b"\r\n" => at += 2,
            b"" | b"\r" => return Err(Stop::More),
            _ => return bad("the end of a chunk"),
        }
    }
    let mut trailers = Vec::new();
    loop {
        // One by one: a bad trailer is seen before the section ends.
        let (found, next) = line(bytes, at)?;
        at = next;
        if found.is_empty() {
            return Ok((body, trailers, at));
        }
        let one = [found, b"\r\n\r\n"].concat();
        let (mut field, _) = fields(&one, 0)?;
        if LATE.split_ascii_whitespace().any(|late| late == field[0].0) {
            return bad("a trailer that comes too late");
        }
        trailers.append(&mut field);
    }
}

/// Whether a list in any field of this name has this element.
fn says(fields: &Fields, name: &str, element: &str) -> bool {
    all(fields, name).iter().any(|value| {
        value.split(|byte| *byte == b',').any(|one| trim(one).eq_ignore_ascii_case(element.as_bytes()))
    })
}

/// The requests of one connection's bytes, up to the first that ends it or breaks a rule.
pub fn requests(bytes: &[u8]) -> (Vec<Request>, Rest) {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        if at == bytes.len() {
            return (found, Rest::None);
        }
        match request(bytes, at) {
            Ok(request) => {
                at = request.end;
                let keeps = request.keeps;
                found.push(request);
                if !keeps {
                    return (found, Rest::None);
                }
            }
            Err(rest) => return (found, rest),
        }
    }
}

/// The request that begins at `at`.
pub fn request(bytes: &[u8], at: usize) -> Result<Request, Rest> {
    let in_head = |stop| match stop {
        Stop::More => Rest::InHead,
        Stop::Bad(why) => Rest::BadHead(why),
    };
    let led = bytes[at..].starts_with(b"\r\n");
    let begin = if led { at + 2 } else { at };
    if let Some(first) = bytes.get(begin)
        && !is_token(*first)
        && !(*first == b'\r' && bytes.len() == begin + 1)
    {
        return Err(Rest::BadHead("no method"));
    }
    let (first, next) = line(bytes, begin).map_err(in_head)?;
    let line = request_line(first).map_err(in_head)?;
    let (mut headers, end) = incremental(bytes, next, &line).map_err(in_head)?;
    let framing = judge(&line, &headers).map_err(in_head)?;
    for (_, value) in &mut headers {
        *value = trim(value).to_vec();
    }
    let Line { method, target, old, .. } = line;
    let (body, trailers, end) = match framing {
        Framing::Sized(length) if length > BODY_BYTES_MAX => return Err(Rest::TooLarge),
        Framing::Sized(length) => {
            let past = end + usize::try_from(length).unwrap();
            let Some(body) = bytes.get(end..past) else { return Err(Rest::InBody(method, target)) };
            (body.to_vec(), Vec::new(), past)
        }
        Framing::Chunked => match chunks(bytes, end) {
            Ok(read) => read,
            Err(Stop::More) => return Err(Rest::InBody(method, target)),
            Err(Stop::Bad(why)) => return Err(Rest::BadBody(why, method, target)),
        },
    };
    let closes = says(&headers, "connection", "close");
    let keeps = !closes && (!old || says(&headers, "connection", "keep-alive"));
    Ok(Request { method, target, old, fields: headers, body, trailers, keeps, led, end })
}

/// The fields of a head. A line that says too much by itself is refused before the section is whole.
fn incremental(bytes: &[u8], at: usize, line: &Line) -> Step<(Fields, usize)> {
    match fields(bytes, at) {
        Err(Stop::More) => {
            // What is there so far, as if it ended here.
            let last = bytes[at..].windows(2).rposition(|two| two == b"\r\n").map_or(at, |end| at + end + 2);
            let so_far = [&bytes[at..last], b"\r\n"].concat();
            let (fields, _) = fields(&so_far, 0)?;
            let unframed = |name: &str| all(&fields, name).len() > 1;
            if ["host", "content-length", "transfer-encoding"].into_iter().any(unframed) {
                return bad("a line that may be there once");
            }
            let alone = |name: &str| {
                let of_name = |field: &&(String, Vec<u8>)| field.0 == name;
                let host = [("host".to_owned(), b"a".to_vec())];
                let one: Fields = fields.iter().filter(of_name).cloned().collect();
                if one.is_empty() || name == "host" { one } else { [&one[..], &host].concat() }
            };
            let plain =
                Line { method: line.method.clone(), target: line.target.clone(), old: false, absolute: None };
            for name in ["host", "content-length", "transfer-encoding"] {
                let one = alone(name);
                if !one.is_empty() {
                    judge(&plain, &one)?;
                }
            }
            Err(Stop::More)
        }
        other => other,
    }
}

/// A response that is there whole.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    /// Whether it says that the connection ends.
    pub closes: bool,
    pub end: usize,
}

/// What comes after the last whole response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    None,
    Cut,
    Bad(&'static str),
}

/// The final responses in a connection's bytes to requests with these methods (`GET` for those beyond). `ended` says
/// whether the connection has ended.
pub fn responses(bytes: &[u8], methods: &[String], ended: bool) -> (Vec<Response>, Tail) {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let head_only = methods.get(found.len()).is_some_and(|method| method == "HEAD");
        match response(bytes, at, head_only, ended) {
            Ok(response) => {
                at = response.end;
                if response.status >= 200 || response.status == 101 {
                    found.push(response);
                }
            }
            Err(Stop::More) => return (found, Tail::Cut),
            Err(Stop::Bad(why)) => return (found, Tail::Bad(why)),
        }
    }
    (found, Tail::None)
}

fn response(bytes: &[u8], at: usize, head_only: bool, ended: bool) -> Step<Response> {
    let (first, next) = line(bytes, at)?;
    let status = match first {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', a @ b'1'..=b'9', b, c, b' ', ..] => {
            text(&[*a, *b, *c]).parse().ok()
        }
        _ => None,
    };
    let Some(status) = status else { return bad("the status line") };
    let (mut fields, end) = fields(bytes, next)?;
    for (_, value) in &mut fields {
        *value = trim(value).to_vec();
    }
    let (lengths, codings) = (all(&fields, "content-length"), all(&fields, "transfer-encoding"));
    let none = head_only || status < 200 || status == 204 || status == 304;
    let closes = says(&fields, "connection", "close");
    let whole = |body: Vec<u8>, end| Ok(Response { status, fields: fields.clone(), body, closes, end });
    match (lengths.as_slice(), codings.as_slice()) {
        ([_, ..], [_, ..]) => bad("both framings"),
        ([_, _, ..], _) | (_, [_, _, ..]) => bad("a framing said twice"),
        _ if none => whole(Vec::new(), end),
        ([length], []) => {
            let Some(length) =
                text(length).parse::<usize>().ok().filter(|_| length.iter().all(u8::is_ascii_digit))
            else {
                return bad("a malformed Content-Length");
            };
            match end.checked_add(length).and_then(|past| bytes.get(end..past)) {
                Some(body) => whole(body.to_vec(), end + length),
                None => Err(Stop::More),
            }
        }
        ([], [coding]) => {
            if *coding != b"chunked" {
                return bad("an encoding that is not chunked");
            }
            let (body, _, end) = chunks(bytes, end)?;
            whole(body, end)
        }
        ([], []) if !closes => bad("no framing on a connection that stays"),
        ([], []) if !ended => Err(Stop::More),
        ([], []) => {
            let fields = fields.clone();
            Ok(Response { status, fields, body: bytes[end..].to_vec(), closes, end: bytes.len() })
        }
    }
}
