//! The description of the HTTP door is one that programs can read.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::process::Command;

use support::origin::Origin;
use support::site::Site;
use support::tool::{output, python};

#[test]
fn the_document_is_valid_openapi() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let program = "import json, sys, urllib.request\nfrom openapi_spec_validator import validate\n\
                   document = json.load(urllib.request.urlopen(sys.argv[1], timeout=60))\n\
                   validate(document)\nprint(document['openapi'], len(document['paths']))\n\
                   document['paths']['/sql']['get']['responses'] = 7\n\
                   try:\n    validate(document)\nexcept Exception:\n    print('and knows a bad one')";
    let said = output(
        Command::new(python())
            .arg("-c")
            .arg(program)
            .arg(format!("http://{}/openapi.json", house.addr("sql"))),
    );
    assert!(said.starts_with("3.1.0 ") && said.ends_with("and knows a bad one\n"), "{said}");
}
