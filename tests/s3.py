"""An S3 server for tests, in threads of this process: it can stop, come back with what it held, and fail on demand.

What pyarrow asks of a server, after the S3 API reference: objects, listings (version 2), batch deletion, multipart
uploads. Requests are not authenticated.
"""

import contextlib
import io
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

_PAGE = 1000
_XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Server:
    """`objects` by bucket and key; `fails(method, key)` answers with an HTTP status, or None where all is well."""

    def __init__(self):
        self.buckets = {}
        self.uploads = {}
        self.fails = lambda method, key: None
        self.asked = []
        self.connections = []
        self._http = None
        self.port = 0
        self.start()

    def start(self):
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), type("Handler", (_Handler,), {"s3": self}))
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self._http.shutdown()
        self._http.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):  # it has ended
                connection.shutdown(socket.SHUT_RDWR)

    def uri(self, bucket, folder=""):
        """Where pyarrow finds it."""
        self.buckets.setdefault(bucket, {})
        return f"s3://{bucket}/{folder}?region=eu-west-1&endpoint_override=http://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    s3 = None

    def setup(self):
        super().setup()
        self.s3.connections.append(self.connection)

    def log_message(self, *_):
        """Quiet."""

    def _route(self):
        parts = urlsplit(self.path)
        self.bucket, _, self.key = unquote(parts.path).lstrip("/").partition("/")
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.body = self._content()
        self.s3.asked.append((self.command, self.key))
        status = self.s3.fails(self.command, self.key)
        if status:
            return self._error(status, {403: "AccessDenied"}.get(status, "SlowDown"))
        if self.bucket not in self.s3.buckets:
            return self._error(404, "NoSuchBucket")
        self.objects = self.s3.buckets[self.bucket]
        return getattr(self, f"_{self.command.lower()}")()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _route  # noqa: N815  as http.server calls them

    def _content(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = self._chunks(self.rfile.readline, self.rfile.read)
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            lines = io.BytesIO(data)
            data = self._chunks(lines.readline, lines.read)
        return data

    @staticmethod
    def _chunks(readline, read):
        data = b""
        while size := int(readline().split(b";")[0], 16):
            data += read(size)
            readline()
        while readline().strip():  # trailers
            continue
        return data

    def _answer(self, status=200, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status, code):
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _head(self):
        if not self.key:
            return self._answer()
        if self.key not in self.objects:
            return self._error(404, "NoSuchKey")
        return self._answer(Content_Length=str(len(self.objects[self.key])), ETag='"0"', Content_Type="binary")

    def _get(self):
        if not self.key:
            return self._list()
        if self.key not in self.objects:
            return self._error(404, "NoSuchKey")
        data = self.objects[self.key]
        asked = self.headers.get("Range")
        if asked is None:
            return self._answer(body=data, ETag='"0"')
        first, last = (int(part) for part in asked.removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        return self._answer(206, part, ETag='"0"', Content_Range=f"bytes {first}-{first + len(part) - 1}/{len(data)}")

    def _list(self):
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        after = self.query.get("continuation-token", "")
        entries = {}
        for key in sorted(self.objects):
            if key.startswith(prefix):
                head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
                entries.setdefault(prefix + head + cut if cut else key, bool(cut))
        left = [entry for entry in sorted(entries) if entry > after]
        page = left[: min(_PAGE, int(self.query.get("max-keys", _PAGE)))]
        more = len(page) < len(left)
        body = f"<ListBucketResult {_XMLNS}><KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}"
        body += "</IsTruncated>"
        body += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        for entry in page:
            if entries[entry]:
                body += f"<CommonPrefixes><Prefix>{escape(entry)}</Prefix></CommonPrefixes>"
            else:
                size = len(self.objects[entry])
                body += f"<Contents><Key>{escape(entry)}</Key><Size>{size}</Size>"
                body += "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        return self._answer(body=f"{body}</ListBucketResult>".encode(), Content_Type="application/xml")

    def _put(self):
        if "partNumber" in self.query:
            self.s3.uploads[self.query["uploadId"]][int(self.query["partNumber"])] = self.body
        elif self.key:
            self.objects[self.key] = self.body
        return self._answer(ETag='"0"')

    def _post(self):
        if "delete" in self.query:
            for key in ElementTree.fromstring(self.body).iter():
                if key.tag.rpartition("}")[2] == "Key":
                    self.objects.pop(key.text, None)
            return self._answer(body=f"<DeleteResult {_XMLNS}/>".encode())
        if "uploads" in self.query:
            number = str(len(self.s3.uploads))
            self.s3.uploads[number] = {}
            body = f"<InitiateMultipartUploadResult {_XMLNS}><UploadId>{number}</UploadId>"
            return self._answer(body=f"{body}</InitiateMultipartUploadResult>".encode())
        parts = self.s3.uploads.pop(self.query["uploadId"])
        self.objects[self.key] = b"".join(parts[number] for number in sorted(parts))
        body = f"<CompleteMultipartUploadResult {_XMLNS}><ETag>0</ETag></CompleteMultipartUploadResult>"
        return self._answer(body=body.encode())

    def _delete(self):
        self.objects.pop(self.key, None)
        return self._answer(204)
