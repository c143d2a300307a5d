//! Content negotiation: which form an answer takes, and which form a body came in.

use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Uri};

use crate::request::Query;

/// How an answer is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Yaml,
    Protobuf,
}

impl Media {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Yaml => "application/yaml",
            Media::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// What an answer shows of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The objects themselves.
    Whole,
    /// `meta.k8s.io/v1 Table`.
    Table,
    /// `meta.k8s.io/v1 PartialObjectMetadata`, or its list.
    Metadata { list: bool },
}

/// What was agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) media: Media,
    pub(crate) shape: Shape,
}

impl Form {
    /// What everybody understands.
    pub(crate) const JSON: Form = Form {
        media: Media::Json,
        shape: Shape::Whole,
    };
}

/// Whether a document is for people's eyes: `pretty` says so, else the programs by which people look.
pub(crate) fn pretty(uri: &Uri, headers: &HeaderMap) -> bool {
    let asked = uri.query().filter(|query| query.contains("pretty"));
    match Query::parse(asked).text("pretty") {
        Some(given) => matches!(given, "1" | "true"),
        None => {
            let agent = headers
                .get(USER_AGENT)
                .and_then(|agent| agent.to_str().ok());
            let people = ["curl", "Wget", "Mozilla/5.0"];
            agent.is_some_and(|agent| people.iter().any(|name| agent.starts_with(name)))
        }
    }
}

/// One media range of an Accept header: type and parameters, both in lower case where case is moot.
pub(crate) struct Range<'a> {
    pub(crate) media: &'a str,
    parameters: &'a str,
}

impl<'a> Range<'a> {
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.split(';').find_map(|p| {
            let (key, value) = p.split_once('=')?;
            (key.trim() == name).then(|| value.trim().trim_matches('"'))
        })
    }

    fn quality(&self) -> f32 {
        self.parameter("q")
            .and_then(|q| q.parse().ok())
            .unwrap_or(1.0)
    }
}

/// The media ranges that a client accepts, best first (a stable sort by q). Empty: anything goes.
pub(crate) fn accepted(headers: &HeaderMap) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|v| !v.is_empty())
        .map(|v| {
            let (media, parameters) = v.split_once(';').unwrap_or((v, ""));
            Range {
                media: media.trim(),
                parameters,
            }
        })
        .filter(|r| r.quality() > 0.0)
        .collect();
    ranges.sort_by(|a, b| b.quality().total_cmp(&a.quality()));
    ranges
}

/// The form for an answer that shows objects. None: 406.
///
/// Objects are stored as JSON, so that JSON costs nothing; protobuf is for those who take nothing else.
pub(crate) fn form(headers: &HeaderMap) -> Option<Form> {
    let ranges = accepted(headers);
    if ranges.is_empty() {
        return Some(Form::JSON);
    }
    let forms = || ranges.iter().filter_map(range_form);
    let first = forms().next()?;
    match first.media {
        Media::Protobuf => forms()
            .find(|form| form.media == Media::Json)
            .or(Some(first)),
        _ => Some(first),
    }
}

/// What a range asks for, if it can be had.
fn range_form(range: &Range<'_>) -> Option<Form> {
    let media = media(range.media)?;
    let shape = match range.parameter("as") {
        None => Shape::Whole,
        Some(kind) => {
            // Only this group and version are there; older ones fall through to the next range.
            if range.parameter("g") != Some("meta.k8s.io") || range.parameter("v") != Some("v1") {
                return None;
            }
            match kind {
                // Rows hold any JSON, which has no form in protobuf.
                "Table" if media == Media::Protobuf => return None,
                "Table" => Shape::Table,
                "PartialObjectMetadata" => Shape::Metadata { list: false },
                "PartialObjectMetadataList" => Shape::Metadata { list: true },
                _ => return None,
            }
        }
    };
    Some(Form { media, shape })
}

fn media(range: &str) -> Option<Media> {
    match range {
        "application/json" | "application/*" | "*/*" => Some(Media::Json),
        "application/yaml" => Some(Media::Yaml),
        "application/vnd.kubernetes.protobuf" => Some(Media::Protobuf),
        _ => None,
    }
}

/// The content type of a body without its parameters. No header at all means JSON, as in Kubernetes.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .map(|v| v.split(';').next().unwrap_or(v).trim())
        .filter(|v| !v.is_empty())
        .unwrap_or("application/json")
}

/// Whether the client takes gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(http::header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|coding| {
            let (name, q) = coding.split_once(';').unwrap_or((coding, ""));
            let refused = q
                .trim()
                .strip_prefix("q=")
                .is_some_and(|q| q.parse() == Ok(0.0));
            name.trim() == "gzip" && !refused
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        form(&headers)
    }

    #[test]
    fn kubectl_gets_its_table() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(of(kubectl).unwrap().shape, Shape::Table);
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(of(old), Some(Form::JSON));
    }

    #[test]
    fn protobuf_is_for_who_takes_nothing_else() {
        assert_eq!(
            of("application/vnd.kubernetes.protobuf,application/json"),
            Some(Form::JSON)
        );
        let protobuf = |shape| {
            Some(Form {
                media: Media::Protobuf,
                shape,
            })
        };
        let own = "application/vnd.kubernetes.protobuf";
        assert_eq!(of(own), protobuf(Shape::Whole));
        assert_eq!(
            of(&format!("{own};type=Pod,text/html")),
            protobuf(Shape::Whole)
        );
        assert_eq!(
            of(&format!("{own}, application/yaml")),
            protobuf(Shape::Whole)
        );
        let partial = format!("{own};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
        assert_eq!(of(&partial), protobuf(Shape::Metadata { list: true }));
        assert_eq!(of(&format!("{own};as=Table;g=meta.k8s.io;v=v1")), None);
        assert_eq!(of("text/html"), None);
        assert_eq!(of("*/*"), Some(Form::JSON));
        assert_eq!(
            of("application/json;q=0.1, application/yaml")
                .unwrap()
                .media,
            Media::Yaml
        );
    }

    #[test]
    fn gzip() {
        let mut headers = HeaderMap::new();
        assert!(!accepts_gzip(&headers));
        headers.insert("accept-encoding", "br, gzip".parse().unwrap());
        assert!(accepts_gzip(&headers));
        headers.insert("accept-encoding", "gzip;q=0".parse().unwrap());
        assert!(!accepts_gzip(&headers));
    }
}
