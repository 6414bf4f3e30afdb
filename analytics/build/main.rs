//! Packs the console into the binary: its page, one style and one script, each as it is and as gzip, and one version of them
//! all, which their URLs have.

mod script;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;

/// The sheets of the style, the later ones over the earlier.
const SHEETS: [&str; 6] = ["tokens", "base", "shell", "parts", "charts", "pages"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("console");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    println!("cargo::rerun-if-changed={}", root.display());
    println!("cargo::rerun-if-changed=build");
    let mut files = BTreeMap::new();
    collect(&root, "", &mut files)?;
    let mut files = packed(files).map_err(io::Error::other)?;
    let mut hasher = DefaultHasher::new();
    for (path, bytes) in &files {
        hasher.write(path.as_bytes());
        hasher.write(bytes);
    }
    let version = format!("{:016x}", hasher.finish());
    if let Some(index) = files.get_mut("index.html") {
        *index = String::from_utf8_lossy(index).replace("@VERSION@", &version).into_bytes();
    }
    let mut code = format!(
        "const VERSION: &str = {version:?};\nconst ETAG_VALUE: &str = {:?};\n",
        format!("\"{version}\"")
    );
    code.push_str("const ASSETS: &[Asset] = &[\n");
    for (index, (path, bytes)) in files.iter().enumerate() {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(bytes)?;
        fs::write(out.join(format!("console-{index}")), bytes)?;
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

/// What is served: `console.js` in the place of all modules, `console.css` in that of the sheets, and the rest.
fn packed(files: BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let text = |path: &str| -> Result<String, String> {
        let bytes = files.get(path).ok_or_else(|| format!("{path} is not there"))?;
        String::from_utf8(bytes.clone()).map_err(|error| format!("{path}: {error}"))
    };
    let is_module = |path: &str| path.ends_with(".js") && path != "early.js";
    let modules = files.keys().filter(|path| is_module(path)).map(|path| Ok((path.clone(), text(path)?)));
    let modules = modules.collect::<Result<BTreeMap<_, _>, String>>()?;
    let sheets = SHEETS.map(|sheet| text(&format!("style/{sheet}.css")));
    let style = sheets.into_iter().collect::<Result<Vec<_>, _>>()?.join("\n");
    if files.keys().filter(|path| path.ends_with(".css")).count() != SHEETS.len() {
        return Err("a sheet of the style is not in the list of the build".to_owned());
    }
    let script = script::bundle("app.js", &modules)?;
    let rest = files.into_iter().filter(|(path, _)| !is_module(path) && !path.ends_with(".css"));
    let made = [("console.css", style), ("console.js", script)];
    Ok(rest.chain(made.map(|(path, text)| (path.to_owned(), text.into_bytes()))).collect())
}

/// The files of a folder and of those in it, each by its path with slashes.
fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &path, files)?;
        } else {
            files.insert(path, fs::read(entry.path())?);
        }
    }
    Ok(())
}
