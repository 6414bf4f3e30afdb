//! The console at `/`: files of the folder `analytics/console`, which the build packs into the binary (`build/`):
//! one script, one style.
//!
//! They are static. What a page shows it asks of `/sql`, with the rights of whoever looks at it. Everything but the first
//! document has the version of all files in its URL, so a browser fetches each once; and no page may run a script, take a
//! style or speak to a host that is not this service.

use ::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use ::http::{HeaderMap, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;

/// What a page may do. Scripts make elements and texts, never markup: `require-trusted-types-for` has the browser refuse
/// it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// A file, as it is and packed.
#[derive(Debug)]
struct Asset {
    path: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

// `VERSION`, which changes when any file does, and `ASSETS`, in the order of their paths.
include!(concat!(env!("OUT_DIR"), "/console.rs"));

/// The routes of the console.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(index)).route("/console/{version}/{*path}", get(asset))
}

async fn index(headers: HeaderMap) -> Response {
    answer("index.html", "no-cache", &headers)
}

async fn asset(Path((version, path)): Path<(String, String)>, headers: HeaderMap) -> Response {
    // A page of another version may still be open somewhere: it is told to ask again.
    let lasting = if version == VERSION { "public, max-age=31536000, immutable" } else { "no-cache" };
    answer(&path, lasting, &headers)
}

fn answer(path: &str, lasting: &'static str, asked: &HeaderMap) -> Response {
    let Ok(found) = ASSETS.binary_search_by(|asset| asset.path.cmp(path)) else {
        let mut response = Response::new(Body::from("the console has no such file\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let asset = &ASSETS[found];
    let tag = HeaderValue::from_static(ETAG_VALUE);
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, media_type(path)),
        (CACHE_CONTROL, lasting),
        (VARY, "accept-encoding"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(ETAG, tag.clone());
    if asked.get(IF_NONE_MATCH).is_some_and(|known| known == tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let packed = takes_gzip(asked) && asset.gzip.len() < asset.plain.len();
    if packed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    *response.body_mut() = Body::from(if packed { asset.gzip } else { asset.plain });
    response
}

/// Whether gzip is among what a client unpacks (RFC 9110, 12.5.3), and not with the weight 0.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let accepted = asked.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|weight| weight > 0.0)
    })
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> &'static str {
        let asset = ASSETS.iter().find(|asset| asset.path == path).unwrap();
        std::str::from_utf8(asset.plain).unwrap()
    }

    #[test]
    fn an_error_is_the_same_as_in_the_views() {
        let failed = crate::views::failed().replace("r.", "");
        assert!(text("console.js").contains(&failed), "core/sql.js is to say: {failed}");
    }

    #[test]
    fn nothing_is_named_that_is_not_there() {
        let index = text("index.html");
        let prefix = format!("/console/{VERSION}/");
        let named: Vec<&str> =
            index.split(&prefix).skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(named.len() > 4, "{named:?}");
        for path in named {
            assert!(ASSETS.iter().any(|asset| asset.path == path), "{path}");
        }
    }

    #[test]
    fn texts_of_others_are_never_markup() {
        let markup =
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"];
        for asset in ASSETS.iter().filter(|asset| asset.path.ends_with(".js")) {
            for word in markup {
                assert!(!text(asset.path).contains(word), "{}: {word}", asset.path);
            }
        }
    }

    #[test]
    fn gzip_is_for_who_takes_it() {
        let takes = |accepted: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accepted))]))
        };
        assert!(takes("gzip") && takes("br, gzip;q=0.5") && takes("deflate, GZIP"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes("") && !takes_gzip(&HeaderMap::new()));
    }
}
