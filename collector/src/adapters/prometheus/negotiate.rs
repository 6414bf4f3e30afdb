//! Which text format a scraper asked for (RFC 9110, section 12.5.1).

use super::text::Format;

/// The format for the value of an `Accept` header: OpenMetrics if it is named at a version that is spoken here
/// and wanted no less than plain text; the classic format otherwise, which every scraper reads.
pub(crate) fn negotiate(accept: &str) -> Format {
    let (mut open_metrics, mut classic) = (0u16, 0u16);
    for range in accept.split(',') {
        let mut parameters = range.split(';').map(str::trim);
        let media_type = parameters.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1000, None);
        for parameter in parameters {
            match parameter.split_once('=').map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
            {
                Some((name, value)) if name.eq_ignore_ascii_case("q") => quality = thousandths(value),
                Some((name, value)) if name.eq_ignore_ascii_case("version") => version = Some(value),
                _ => {}
            }
        }
        match media_type.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                open_metrics = open_metrics.max(quality);
            }
            "text/plain" if matches!(version, None | Some("0.0.4")) => classic = classic.max(quality),
            _ => {}
        }
    }
    if open_metrics > 0 && open_metrics >= classic { Format::OpenMetrics } else { Format::Classic }
}

/// A weight in thousandths; one that cannot be read counts as unwanted.
fn thousandths(weight: &str) -> u16 {
    match weight.parse::<f32>() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => (weight * 1000.0) as u16,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scrapers_send() {
        let cases = [
            ("", Format::Classic),
            ("*/*", Format::Classic),
            ("text/html,*/*;q=0.8", Format::Classic),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8", Format::OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Format::Classic),
            ("application/openmetrics-text;version=1.0.0;q=0", Format::Classic),
            ("application/openmetrics-text;q=0.3,text/plain;version=0.0.4;q=0.5", Format::Classic),
            ("application/openmetrics-text;q=zebra", Format::Classic),
            // Prometheus 2.42
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            // Prometheus 3 with native histograms wanted
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;\
                 q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                Format::OpenMetrics,
            ),
        ];
        for (accept, format) in cases {
            assert_eq!(negotiate(accept), format, "{accept}");
        }
    }
}
