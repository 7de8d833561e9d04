"""The strict HTTP/1.1 vectors that we overrule: {vector id: (our verdict, why)}. It may only grow stricter.

Vectors come from a parser that serves many protocols and leaves some duties to its caller; each reason names the rule.
"""

HOST = "RFC 9112 §3.2: a server MUST respond with 400 to any HTTP/1.1 request that lacks a Host header field"
METHOD = "RFC 9112 §3 and RFC 9110 §16.1: a method that is not in the registry (or is PRI, reserved) is 501"
PROTOCOL = "RFC 9112 §2.3: HTTP-name is HTTP; RTSP and ICE are other protocols"
NO_VERSION = "RFC 9112 §3 and §2.3: a request line has three parts; HTTP/0.9 is not spoken here"
OLD_VERSION = "RFC 9112 §2.3 and RFC 9110 §15.6.6: only the major version 1 is spoken here"
FRAGMENT = "RFC 9112 §3.2: no form of request-target has a fragment; parsers disagree on where the path ends then"
LEADING = "RFC 9112 §2.2: only a server may skip an empty line, and only before a request-line"
CODING = "RFC 9112 §6.1 and §6.3: without chunked as its only coding a body has no end that two parsers agree on"
CODINGS = "RFC 9112 §6.1: a second Transfer-Encoding line; only chunked, once, is spoken here"

OVERRULED: dict[str, tuple[str, str]] = {
    "llhttp:request/connection:8 Setting flag": ("reject", HOST),
    "llhttp:request/connection:36 Restarting when keep-alive is explicitly": ("reject", HOST),
    "llhttp:request/connection:238 Setting flag on `close`": ("reject", HOST),
    "llhttp:request/connection:266 Setting flag on `close` followed by tab": ("reject", HOST),
    "llhttp:request/connection:455 Sample": ("reject", HOST),
    "llhttp:request/connection:544 Multiple tokens with folding and LWS": ("reject", HOST),
    "llhttp:request/connection:681 Setting a flag and pausing": ("reject", HOST),
    "llhttp:request/connection:715 Emitting part of body and pausing": ("reject", HOST),
    "llhttp:request/content-length:6 `Content-Length` with zeroes": ("reject", HOST),
    "llhttp:request/content-length:43 `Content-Length` with follow-up headers": ("reject", HOST),
    "llhttp:request/content-length:292 Spaces in `Content-Length` (surrounding)": ("reject", HOST),
    "llhttp:request/content-length:319 Tabs in `Content-Length` (surrounding)": ("reject", HOST),
    "llhttp:request/content-length:446 Content-Length reset when no body is received": ("reject", HOST),
    "llhttp:request/finish:8 It should be safe to finish after GET request": ("reject", HOST),
    "llhttp:request/method:6 REPORT request": ("reject", HOST),
    "llhttp:request/method:346 SOURCE request": ("reject", METHOD),
    "llhttp:request/method:374 SOURCE request with ICE": ("reject", METHOD),
    "llhttp:request/method:404 OPTIONS request with RTSP": ("reject", PROTOCOL),
    "llhttp:request/method:432 ANNOUNCE request with RTSP": ("reject", METHOD),
    "llhttp:request/method:460 PRI request HTTP2": ("reject", METHOD),
    "llhttp:request/pausing:6 on_message_begin": ("reject", HOST),
    "llhttp:request/pausing:36 on_message_complete": ("reject", HOST),
    "llhttp:request/pausing:66 on_protocol_complete": ("reject", HOST),
    "llhttp:request/pausing:96 on_method_complete": ("reject", HOST),
    "llhttp:request/pausing:126 on_url_complete": ("reject", HOST),
    "llhttp:request/pausing:156 on_version_complete": ("reject", HOST),
    "llhttp:request/pausing:186 on_header_field_complete": ("reject", HOST),
    "llhttp:request/pausing:216 on_header_value_complete": ("reject", HOST),
    "llhttp:request/pausing:246 on_headers_complete": ("reject", HOST),
    "llhttp:request/pausing:276 on_chunk_header": ("reject", HOST),
    "llhttp:request/pausing:315 on_chunk_extension_name": ("reject", HOST),
    "llhttp:request/pausing:357 on_chunk_extension_value": ("reject", HOST),
    "llhttp:request/pausing:400 on_chunk_complete": ("reject", HOST),
    "llhttp:request/pipelining:6 Should parse multiple events": ("reject", HOST),
    "llhttp:request/sample:8 Simple request": ("reject", HOST),
    "llhttp:request/sample:46 Request with method starting with `H`": ("reject", HOST),
    "llhttp:request/sample:170 DUMBPACK": ("reject", HOST),
    "llhttp:request/sample:198 No headers and no body": ("reject", HOST),
    "llhttp:request/sample:221 One header and no body": ("reject", HOST),
    "llhttp:request/sample:293 Prefix newline": ("reject", HOST),
    "llhttp:request/sample:316 No HTTP version": ("reject", NO_VERSION),
    "llhttp:request/sample:480 Request starting with CRLF": ("reject", HOST),
    "llhttp:request/sample:510 Extended Characters": ("reject", HOST),
    "llhttp:request/sample:540 255 ASCII in header value": ("reject", HOST),
    "llhttp:request/transfer-encoding:8 Parsing and setting flag": ("reject", HOST),
    "llhttp:request/transfer-encoding:35 Parse chunks with lowercase size": ("reject", HOST),
    "llhttp:request/transfer-encoding:72 Parse chunks with uppercase size": ("reject", HOST),
    "llhttp:request/transfer-encoding:109 POST with `Transfer-Encoding: chunked`": ("reject", HOST),
    "llhttp:request/transfer-encoding:146 Two chunks and triple zero prefixed end chunk": ("reject", HOST),
    "llhttp:request/transfer-encoding:188 Trailing headers": ("reject", HOST),
    "llhttp:request/transfer-encoding:240 Chunk extensions": ("reject", HOST),
    "llhttp:request/transfer-encoding:368 Chunk extensions quoting": ("reject", HOST),
    "llhttp:request/transfer-encoding:753 POST with `chunked` as last transfer-encoding": ("reject", FRAGMENT),
    "llhttp:request/transfer-encoding:795 POST with `chunked` as last transfer-encoding (multiple headers)": (
        "reject",
        FRAGMENT,
    ),
    "llhttp:request/uri:6 Quotes in URI": ("reject", HOST),
    "llhttp:request/uri:31 Query URL with question mark": ("reject", HOST),
    "llhttp:request/uri:54 Host terminated by a query string": ("reject", HOST),
    "llhttp:request/uri:77 `host:port` terminated by a query string": ("reject", HOST),
    "llhttp:request/uri:104 Query URL with vertical bar character": ("reject", HOST),
    "llhttp:request/uri:127 `host:port` terminated by a space": ("reject", HOST),
    "llhttp:request/uri:167 Fragment in URI": ("reject", FRAGMENT),
    "llhttp:request/uri:224 `host:port` and basic auth": ("reject", HOST),
    "llhttp:response/connection:494 HTTP 304 with Content-Length": ("reject", LEADING),
    "llhttp:response/connection:588 HTTP 100 first, then 400": ("reject", LEADING),
    "llhttp:response/pipelining:6 Should parse multiple events": ("reject", LEADING),
    "llhttp:response/sample:42 RTSP response": ("reject", PROTOCOL),
    "llhttp:response/sample:62 ICE response": ("reject", PROTOCOL),
    "llhttp:response/sample:647 HTTP version 0.9": ("reject", OLD_VERSION),
    "llhttp:response/sample:697 Response starting with CRLF": ("reject", LEADING),
    "llhttp:response/transfer-encoding:45 `chunked` before other transfer-encoding": ("reject", CODING),
    "llhttp:response/transfer-encoding:76 multiple transfer-encoding where chunked is not the last one": (
        "reject",
        CODINGS,
    ),
    "llhttp:response/transfer-encoding:114 `chunkedchunked` transfer-encoding does not enable chunked enconding": (
        "reject",
        CODING,
    ),
}
