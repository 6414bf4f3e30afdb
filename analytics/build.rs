//! Packs the files of the console into the binary: each as it is and as gzip, and one version of them all, which their
//! URLs have.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("console");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, "", &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for (path, bytes) in &files {
        hasher.write(path.as_bytes());
        hasher.write(bytes);
    }
    let version = format!("{:016x}", hasher.finish());
    let mut code = format!(
        "const VERSION: &str = {version:?};\nconst ETAG_VALUE: &str = {:?};\n",
        format!("\"{version}\"")
    );
    code.push_str("const ASSETS: &[Asset] = &[\n");
    for (index, (path, bytes)) in files.iter().enumerate() {
        let named = match path.as_str() {
            "index.html" => String::from_utf8_lossy(bytes).replace("@VERSION@", &version).into_bytes(),
            _ => bytes.clone(),
        };
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(&named)?;
        fs::write(out.join(format!("console-{index}")), &named)?;
        fs::write(out.join(format!("console-{index}.gz")), packer.finish()?)?;
        let bytes = |ending: &str| {
            format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/console-{index}{ending}\"))")
        };
        // Writing to a String does not fail.
        let _fits =
            writeln!(code, "Asset {{ path: {path:?}, plain: {}, gzip: {} }},", bytes(""), bytes(".gz"));
    }
    code.push_str("];\n");
    fs::write(out.join("console.rs"), code)
}

/// The files of a folder and of those in it, each by its path with slashes.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &path, files)?;
        } else {
            files.push((path, fs::read(entry.path())?));
        }
    }
    Ok(())
}
