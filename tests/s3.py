"""An S3 server for tests: moto's, in threads of this process. It can stop, come back with what it held, and refuse."""

import threading
import urllib.request

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from pyarrow import fs
from werkzeug.serving import make_server
from werkzeug.wrappers import Response


class Server:
    """Empty when it is made. `refuses(method, path)` gives the code that S3 answers with, or None where all is well."""

    def __init__(self):
        self.refuses = lambda method, path: None
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._port = 0
        self.start()
        urllib.request.urlopen(urllib.request.Request(f"{self.address}/moto-api/reset", method="POST")).close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self._port}"

    def start(self):
        self._server = make_server(
            "127.0.0.1", self._port, self._answer, threaded=True, request_handler=MotoRequestHandler
        )
        self._port = self._server.server_port
        # It looks that often whether it shall stop.
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def bucket(self, name):
        """Makes a bucket; its URI."""
        files = fs.S3FileSystem(endpoint_override=self.address, region="us-east-1", allow_bucket_creation=True)
        files.create_dir(name)
        return f"s3://{name}?region=us-east-1&endpoint_override={self.address}"

    def _answer(self, environ, start_response):
        code = self.refuses(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if code is None:
            return self._moto(environ, start_response)
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        return Response(body, {"AccessDenied": 403}.get(code, 503), mimetype="application/xml")(environ, start_response)
