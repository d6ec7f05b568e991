"""What schemathesis cannot know from a schema: which ids exist, and which refusals are not about the form of a request.

Ids that are well-formed are mostly replaced by those of real things, so that requests get past the look-ups; what is
malformed stays as it is. Services and an endpoint are made anew whenever they have been deleted.
"""

import copy
import itertools
import os
import re
import uuid

import requests
import schemathesis

API = os.environ["ADIT_API"]
TOKEN = os.environ["ADIT_TENANT_TOKEN"]
PROJECT = os.environ["ADIT_PROJECT"]
VPC = os.environ["ADIT_VPC"]
SUBNET = os.environ["ADIT_SUBNET"]
NIC = os.environ["ADIT_NIC"]
LOAD_BALANCER = os.environ["ADIT_LOAD_BALANCER"]
POOL = os.environ["ADIT_POOL"]

# The codes that say that a request is malformed. A request that fits the document is never answered with one of them.
ABOUT_FORM = {
    f"EndPoint.{number}"
    for number in """
    0002 0006 0007 0010 0014 0015 0017 0018 0019 0020 0021 0023 1003 1004 2011 2017 2027 2028 2029 2031 2033 2041
    2044 2045 2048 3002 3035 3036 3043 3062 3063 3066 3068 3070 3072 3073 3074 3075 3076
""".split()
}

session = requests.Session()
session.trust_env = False
session.headers["X-Auth-Token"] = TOKEN


def call(method, path, body=None):
    reply = session.request(method, f"{API}/v1/{PROJECT}/{path}", json=body, timeout=60)
    return reply.status_code, reply.json() if reply.content else None


def must(method, path, body=None):
    status, reply = call(method, path, body)
    assert status == 200, f"{method} {path}: {status} {reply}"
    return reply


class Living:
    """A thing that is there when it is asked for."""

    def __init__(self, path, make, usable):
        self.path, self.make, self.usable, self.id = path, make, usable, None

    def get(self):
        while True:
            if self.id is None:
                self.id = must("POST", self.path, self.make())["id"]
            status, reply = call("GET", f"{self.path}/{self.id}")
            if status == 200 and reply["status"] in self.usable:
                return self.id
            if status != 200 or reply["status"] != "creating":
                self.id = None


used = itertools.cycle(range(20000, 65536))


def new_service():
    ports = [{"client_port": 80, "server_port": next(used)}]
    return {"port_id": NIC, "vpc_id": VPC, "server_type": "VM", "ports": ports}


service = Living("vpc-endpoint-services", new_service, {"available"})
unused_service = Living("vpc-endpoint-services", new_service, {"available"})
endpoint = Living(
    "vpc-endpoints",
    lambda: {"endpoint_service_id": service.get(), "vpc_id": VPC, "subnet_id": SUBNET},
    {"pendingAcceptance", "accepted", "rejected"},
)


def gateway_service():
    """One that the operator runs, and that takes policies and route tables."""
    public = must("GET", "vpc-endpoint-services/public")["endpoint_services"]
    return next(it["id"] for it in public if it["service_type"] == "gateway")


def is_id(value):
    """Whether a value is a UUID; one in eight of them stays as it is."""
    try:
        return isinstance(value, str) and len(value) == 36 and uuid.UUID(value).int % 8 != 5
    except ValueError:
        return False


def put(values, name, real):
    if isinstance(values, dict) and is_id(values.get(name)):
        values[name] = real()


def differ(ports):
    """A schema cannot say that client ports differ, nor that no other service has the server ports."""
    for client_port, mapping in enumerate(ports or [], 1):
        mapping["client_port"] = client_port
        mapping["server_port"] = next(used) if client_port % 8 else mapping["server_port"]


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Replies have the fields of the document and no others; for clients' sake the document itself does not say so."""
    components = raw_schema["components"]["schemas"]

    def close(schema):
        if isinstance(schema, list):
            for item in schema:
                close(item)
        elif isinstance(schema, dict):
            if "allOf" in schema:
                # Closed as a whole: no part of it knows the others' fields.
                schema["unevaluatedProperties"] = False
                return
            if "properties" in schema:
                schema.setdefault("additionalProperties", False)
            if "$ref" in schema:
                # A copy: requests may have the same parts, and in them unknown fields are ignored.
                name = schema["$ref"].rpartition("/")[2]
                closed = f"{name}InReply"
                schema["$ref"] = f"#/components/schemas/{closed}"
                if closed not in components:
                    components[closed] = copy.deepcopy(components[name])
                    close(components[closed])
            for value in list(schema.values()):
                close(value)

    for path in raw_schema["paths"].values():
        for operation in path.values():
            close(operation["responses"])


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.path_parameters or {}
    # The operator's requests are about somebody else's project, or there would soon be nothing to ask about.
    if case.path.startswith("/admin/") and path.get("project_id") == PROJECT:
        path["project_id"] = "0" * 32
    put(path, "vpc_endpoint_service_id", (unused_service if case.method == "DELETE" else service).get)
    put(path, "vpc_endpoint_id", endpoint.get)
    put(path, "resource_id", (endpoint if path.get("resource_type") == "endpoint" else service).get)
    if not isinstance(case.body, dict):
        return
    # Cases share what they are made from.
    body = case.body = copy.deepcopy(case.body)
    gateway = body.get("policy_statement") or body.get("routetables")
    if case.meta is not None and case.meta.generation.mode.is_positive:
        differ(body.get("ports"))
        if gateway:
            # Access control is an interface endpoint's.
            body.pop("whitelist", None)
            body.pop("enable_whitelist", None)
    balanced = body.get("server_type") in ("LB", "VIP")
    put(body, "port_id", lambda: LOAD_BALANCER if balanced else NIC)
    put(body, "vpc_id", lambda: VPC)
    put(body, "subnet_id", lambda: SUBNET)
    put(body, "pool_id", lambda: POOL)
    put(body, "endpoint_service_id", gateway_service if gateway else service.get)
    endpoints = body.get("endpoints")
    if isinstance(endpoints, list) and len(endpoints) == 1 and is_id(endpoints[0]):
        endpoints[0] = endpoint.get()


@schemathesis.hook
def after_call(context, case, response):
    """What is deleted is `deleting` for a moment (spec semantics 4), which OpenAPI has no word for, and then gone."""
    deleted = re.search(rf"/v1/{PROJECT}/((?:vpc-endpoints|vpc-endpoint-services)/[^/?]+)$", response.request.url)
    if case.method == "DELETE" and response.status_code == 204 and deleted:
        while call("GET", deleted[1])[0] == 200:
            pass


@schemathesis.check
def what_fits_is_not_called_malformed(ctx, response, case):
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 400:
        return
    refusal = response.json()
    # A region without the mode, an endpoint of the other type, a record of the other kind, what cannot go; and 80.0, which is an integer for
    # JSON Schema alone.
    beyond = r"the gateways of this region cannot serve|\.0 is not an integer|of a gateway service|of type interface|organizations:|stands alone|is a setting"
    if re.search(beyond, refusal["error_msg"]):
        return
    assert refusal["error_code"] not in ABOUT_FORM, f"A request that fits its schema is malformed: {refusal}"


@schemathesis.check
def a_refusal_says_more_than_its_code(ctx, response, case):
    if response.status_code in (400, 401, 403, 404):
        refusal = response.json()
        assert set(refusal) == {"error_code", "error_msg"}, refusal
        assert refusal["error_msg"] and "\n" not in refusal["error_msg"], refusal


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """What OpenAPI has no word for: a parameter without a value (`?id=`) counts as not given (spec 0.3), and one that is
    not known is ignored (spec 0.1)."""
    if type(failure).__name__ != "AcceptedNegativeData":
        return True
    unknown = "in query - violates `additionalProperties`" in failure.message
    return not unknown and "" not in (case.query or {}).values()
