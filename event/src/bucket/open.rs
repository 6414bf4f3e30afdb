//! From a URL and options to a store of the crate `object_store`.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use super::config::BucketConfig;
use super::error::root;
use crate::Problem;

/// Options that have a key of their own, or that would take away what all rests on.
const OURS: [(&str, &str); 5] = [
    ("timeout", "object_store.timeout_ms"),
    ("bucket", "object_store.url"),
    ("bucket_name", "object_store.url"),
    ("container_name", "object_store.url"),
    ("conditional_put", "nothing: the manifest needs it"),
];
/// Most tries of one request; the time that they take together has a bound of its own.
const RETRIES_MAX: usize = 100;

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    S3 { prefix: &'a str },
    Google { prefix: &'a str },
    Azure { prefix: &'a str },
    Folder(&'a Path),
}

/// A store, and its folder if it is one on a disk.
pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) folder: Option<PathBuf>,
}

/// What is wrong with a URL and its options.
pub(super) fn problems(url: &str, config: &BucketConfig) -> Vec<Problem> {
    let target = match target(url) {
        Ok(target) => target,
        Err(message) => {
            let hint = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder";
            return vec![Problem::new("object_store.url", message).hint(hint)];
        }
    };
    let mut problems = Vec::new();
    for name in config.options.keys() {
        let path = format!("object_store.options.{name}");
        let lower = name.to_ascii_lowercase();
        let plain = ["aws_", "azure_", "google_"].iter().find_map(|kind| lower.strip_prefix(kind));
        let ours = OURS.iter().find(|(ours, _)| plain.unwrap_or(&lower) == *ours);
        let known = match target {
            Target::S3 { .. } => AmazonS3ConfigKey::from_str(name).is_ok(),
            Target::Google { .. } => GoogleConfigKey::from_str(name).is_ok(),
            Target::Azure { .. } => AzureConfigKey::from_str(name).is_ok(),
            Target::Folder(_) => false,
        };
        if let Some((_, instead)) = ours {
            problems.push(Problem::new(path, "is not set here").hint(format!("in its place: {instead}")));
        } else if !known {
            let hint = match target {
                Target::S3 { .. } => "such as endpoint, region, access_key_id, secret_access_key, allow_http",
                Target::Google { .. } => "such as service_account, service_account_key",
                Target::Azure { .. } => "such as account_name, account_key, sas_key, endpoint, allow_http",
                Target::Folder(_) => "a folder takes none",
            };
            problems.push(Problem::new(path, "no option of this kind of store").hint(hint));
        }
    }
    // Values are looked at by the crate, where it makes a client. A folder may come later.
    if problems.is_empty()
        && !matches!(target, Target::Folder(_))
        && let Err(reason) = open(url, config)
    {
        problems.push(Problem::new("object_store.options", reason));
    }
    problems
}

/// Makes a store. Connects to nothing; but a folder must be there.
///
/// # Errors
/// Why not.
pub(super) fn open(url: &str, config: &BucketConfig) -> Result<Opened, String> {
    let (store, prefix): (Box<dyn ObjectStore>, &str) = match target(url)? {
        Target::S3 { prefix } => {
            let mut builder = AmazonS3Builder::new().with_url(url).with_retry(retry(config));
            for (name, value) in options(config) {
                builder = builder.with_config(key(&name)?, value);
            }
            (Box::new(builder.build().map_err(reason)?), prefix)
        }
        Target::Google { prefix } => {
            let mut builder = GoogleCloudStorageBuilder::new().with_url(url).with_retry(retry(config));
            for (name, value) in options(config) {
                builder = builder.with_config(key(&name)?, value);
            }
            (Box::new(builder.build().map_err(reason)?), prefix)
        }
        Target::Azure { prefix } => {
            let mut builder = MicrosoftAzureBuilder::new().with_url(url).with_retry(retry(config));
            for (name, value) in options(config) {
                builder = builder.with_config(key(&name)?, value);
            }
            (Box::new(builder.build().map_err(reason)?), prefix)
        }
        Target::Folder(folder) => {
            if !folder.is_dir() {
                let folder = folder.display();
                return Err(format!("{folder} is no folder: create it, or mount what belongs there"));
            }
            let store =
                LocalFileSystem::new_with_prefix(folder).map_err(reason)?.with_automatic_cleanup(true);
            return Ok(Opened { store: Arc::new(store), folder: Some(folder.to_owned()) });
        }
    };
    let prefix = object_store::path::Path::parse(prefix).map_err(reason)?;
    let store: Arc<dyn ObjectStore> = match prefix.as_ref() {
        "" => Arc::from(store),
        _ => Arc::new(PrefixStore::new(store, prefix)),
    };
    Ok(Opened { store, folder: None })
}

fn target(url: &str) -> Result<Target<'_>, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("`{url}` is no URL"));
    };
    if scheme == "file" {
        let folder = Path::new(rest);
        return match folder.is_absolute() && folder.parent().is_some() {
            true => Ok(Target::Folder(folder)),
            false => Err(format!("`{url}` names no folder")),
        };
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if bucket.is_empty() || !bucket.chars().all(is_plain) {
        return Err(format!("`{url}` names no bucket"));
    }
    let dots = |segment: &str| segment == "." || segment == "..";
    if prefix.split('/').any(dots) || object_store::path::Path::parse(prefix).is_err() {
        return Err(format!("`{prefix}` is no prefix of names"));
    }
    match scheme {
        "s3" => Ok(Target::S3 { prefix }),
        "gs" => Ok(Target::Google { prefix }),
        "az" => Ok(Target::Azure { prefix }),
        _ => Err(format!("`{scheme}` is no kind of store that is known here")),
    }
}

/// What was configured, with the time that a request may take.
fn options(config: &BucketConfig) -> impl Iterator<Item = (String, String)> {
    let ours = [("timeout".to_owned(), format!("{}ms", config.timeout_ms))];
    config.options.clone().into_iter().chain(ours)
}

fn key<K: FromStr>(name: &str) -> Result<K, String> {
    K::from_str(name).map_err(|_| format!("`{name}` is no option of this kind of store"))
}

fn retry(config: &BucketConfig) -> RetryConfig {
    let ms = |ms: u32| Duration::from_millis(ms.into());
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: ms(config.retry_initial_ms),
            max_backoff: ms(config.retry_max_ms),
            base: 2.0,
        },
        max_retries: RETRIES_MAX,
        retry_timeout: ms(config.retry_elapsed_max_ms),
    }
}

fn reason(error: impl std::error::Error) -> String {
    root(&error)
}
