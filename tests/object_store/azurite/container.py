"""Creates the container `logs` in an Azurite, by a request signed with its well-known key.

    container.py ADDRESS ACCOUNT KEY

The signature is that of "Authorize with Shared Key", Azure Storage REST API.
"""

import base64
import hashlib
import hmac
import sys
import urllib.request
from email.utils import formatdate

address, account, key = sys.argv[1:]
date, version = formatdate(usegmt=True), "2021-08-06"
# Eleven standard headers, none of them sent; the account stands twice, since it is in the path too.
signed = ["PUT"] + [""] * 11 + [f"x-ms-date:{date}", f"x-ms-version:{version}"]
signed += [f"/{account}/{account}/logs", "restype:container"]
digest = hmac.new(base64.b64decode(key), "\n".join(signed).encode(), hashlib.sha256).digest()
headers = {
    "x-ms-date": date,
    "x-ms-version": version,
    "Authorization": f"SharedKey {account}:{base64.b64encode(digest).decode()}",
}
url = f"http://{address}/{account}/logs?restype=container"
urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=30)
