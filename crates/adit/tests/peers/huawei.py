#!/usr/bin/env python3
"""Calls every VPCEP v1 operation of huaweicloudsdkvpcep, signed with an access key, and judges the answers.

Prints a line that begins with PASS or FAIL for each call. What to call and as whom comes by the environment:
BASE_URL ACCESS_KEY SECRET_KEY PROJECT_ID DOMAIN_ID VPC_ID NETWORK_ID LB_PORT_ID REGION.
"""

import datetime, os, sys, time, traceback
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions import exceptions as X
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkvpcep.v1 import VpcepClient
from huaweicloudsdkvpcep.v1 import model as M

E = os.environ
BASE = E["BASE_URL"]
nfail = 0


def client(ak=E["ACCESS_KEY"], sk=E["SECRET_KEY"], pid=E["PROJECT_ID"], region=None):
    cfg = HttpConfig.get_default_config()
    cfg.timeout = 20
    cfg.retry_times = 1
    b = VpcepClient.new_builder().with_http_config(cfg)
    c = BasicCredentials(ak, sk, pid) if pid else BasicCredentials(ak, sk).with_iam_endpoint(BASE)
    b = b.with_credentials(c)
    return (b.with_region(region) if region else b.with_endpoint(BASE)).build()


C = client()


def step(name, fn):
    """Runs one operation; a failing step does not stop later ones."""
    global nfail
    try:
        r = fn()
        print(f"PASS {name}")
        return r
    except Exception as e:  # noqa: BLE001
        nfail += 1
        msg = f"{e.status_code} {e.error_code} {e.error_msg}" if isinstance(e, X.ServiceResponseException) else repr(e)
        print(f"FAIL {name}: {msg}")
        if not isinstance(e, (X.ServiceResponseException, AssertionError)):
            traceback.print_exc()


def eq(a, b, what=""):
    assert a == b, f"{what}: {a!r} != {b!r}"


def has(cond, what):
    assert cond, what


def isdate(v):
    """The SDK hands dates over as datetime or, for some formats, as the raw string."""
    has(isinstance(v, datetime.datetime) or datetime.datetime.strptime(v, "%Y-%m-%dT%H:%M:%SZ"), f"not a date: {v!r}")


def until(fn, ok, secs=60):
    end = time.time() + secs
    while True:
        r = fn()
        if ok(r):
            return r
        if time.time() > end:
            raise AssertionError(f"timeout, last: {r}")
        time.sleep(0.5)


def refused(fn, status, code=None):
    try:
        r = fn()
    except X.ServiceResponseException as e:
        eq(e.status_code, status, "status")
        if code:
            eq(e.error_code, code, "error_code")
        has(e.error_msg, "error_msg empty")
        return e
    raise AssertionError(f"not refused: {r}")


def main():
    name = "hw" + os.urandom(3).hex()
    svc_get = lambda i: C.list_service_details(M.ListServiceDetailsRequest(vpc_endpoint_service_id=i))
    ep_get = lambda i: C.list_endpoint_info_details(M.ListEndpointInfoDetailsRequest(vpc_endpoint_id=i))
    gone = lambda f: lambda: until(lambda: status_of(f), lambda s: s == 404, 60)

    def status_of(f):
        try:
            f()
            return 200
        except X.ServiceResponseException as e:
            return e.status_code

    # versions
    def versions():
        v = C.list_version_details(M.ListVersionDetailsRequest()).versions
        has(any(x.id == "v1" and x.status for x in v), f"no v1 in {v}")

    step("ListVersionDetails  GET /", versions)
    step(
        "ListSpecifiedVersionDetails  GET /v1",
        lambda: has(
            C.list_specified_version_details(M.ListSpecifiedVersionDetailsRequest(version="v1")).version.id == "v1",
            "version.id",
        ),
    )

    # quota
    def quota():
        r = C.list_quota_details(M.ListQuotaDetailsRequest()).quotas.resources
        eq({x.type for x in r}, {"endpoint", "endpoint_service"}, "types")
        has(all(isinstance(x.used, int) and isinstance(x.quota, int) for x in r), "ints")
        r = C.list_quota_details(M.ListQuotaDetailsRequest(type="endpoint")).quotas.resources
        eq([x.type for x in r], ["endpoint"], "filtered")

    step("ListQuotaDetails", quota)

    # endpoint service
    def create():
        r = C.create_endpoint_service(
            M.CreateEndpointServiceRequest(
                body=M.CreateEndpointServiceRequestBody(
                    port_id=E["LB_PORT_ID"],
                    vpc_id=E["VPC_ID"],
                    service_name=name,
                    server_type="LB",
                    service_type="interface",
                    approval_enabled=True,
                    ports=[M.PortList(client_port=8080, server_port=80, protocol="TCP")],
                    tcp_proxy="close",
                    tags=[M.TagList(key="fizz", value="buzz")],
                    description="created by huaweicloudsdkvpcep",
                )
            )
        )
        has(r.status_code in (200, 201), f"status {r.status_code}")
        eq(r.service_name, f"{E['REGION']}.{name}.{r.id}", "service_name")
        has(r.status in ("creating", "available"), r.status)
        eq(r.approval_enabled, True, "approval_enabled")
        eq(r.project_id, E["PROJECT_ID"], "project_id")
        isdate(r.created_at)
        eq((r.ports[0].client_port, r.ports[0].server_port, r.ports[0].protocol), (8080, 80, "TCP"), "ports")
        return r

    s = step("CreateEndpointService", create)
    if not s:
        return
    sid = s.id
    step("ListServiceDetails (until available)", lambda: until(lambda: svc_get(sid), lambda r: r.status == "available"))
    step(
        "CreateEndpointService same port again is refused",
        lambda: refused(
            lambda: C.create_endpoint_service(
                M.CreateEndpointServiceRequest(
                    body=M.CreateEndpointServiceRequestBody(
                        port_id=E["LB_PORT_ID"],
                        vpc_id=E["VPC_ID"],
                        server_type="LB",
                        ports=[M.PortList(client_port=9090, server_port=80, protocol="TCP")],
                    )
                )
            ),
            400,
            "EndPoint.3044",
        ),
    )

    def list_svc():
        r = C.list_endpoint_service(
            M.ListEndpointServiceRequest(
                endpoint_service_name=name.upper(),
                status="available",
                sort_key="updated_at",
                sort_dir="asc",
                limit=10,
                offset=0,
            )
        )
        eq([x.id for x in r.endpoint_services], [sid], "by name, case-insensitive, fuzzy")
        eq(r.total_count, 1, "total_count")
        r = C.list_endpoint_service(M.ListEndpointServiceRequest(id=sid))
        eq(r.endpoint_services[0].service_name, s.service_name, "by id")
        isdate(r.endpoint_services[0].created_at)

    step("ListEndpointService", list_svc)

    def describe():
        a = C.list_service_describe_details(M.ListServiceDescribeDetailsRequest(id=sid))
        b = C.list_service_describe_details(M.ListServiceDescribeDetailsRequest(endpoint_service_name=s.service_name))
        eq((a.id, b.id), (sid, sid), "ids")

    step("ListServiceDescribeDetails", describe)

    def public():
        r = C.list_service_public_details(M.ListServicePublicDetailsRequest(limit=100, offset=0))
        has(r.total_count >= 1 and r.endpoint_services[0].owner, "no public services")
        return r.endpoint_services

    pub = step("ListServicePublicDetails", public) or []

    def update():
        r = C.update_endpoint_service(
            M.UpdateEndpointServiceRequest(
                vpc_endpoint_service_id=sid,
                body=M.UpdateEndpointServiceRequestBody(
                    approval_enabled=True,
                    service_name=name + "_u",
                    ports=[M.PortList(client_port=8081, server_port=81, protocol="TCP")],
                    description="changed",
                ),
            )
        )
        eq(r.service_name, f"{E['REGION']}.{name}_u.{sid}", "service_name")
        eq(svc_get(sid).ports[0].client_port, 8081, "port")

    step("UpdateEndpointService", update)

    # whitelist
    perm = "iam:domain::" + E["DOMAIN_ID"]
    star = "iam:domain::*"

    def act(action, *p):
        return C.add_or_remove_service_permissions(
            M.AddOrRemoveServicePermissionsRequest(
                vpc_endpoint_service_id=sid,
                body=M.AddOrRemoveServicePermissionsRequestBody(permissions=list(p), action=action),
            )
        )

    perms = lambda **k: C.list_service_permissions_details(
        M.ListServicePermissionsDetailsRequest(vpc_endpoint_service_id=sid, **k)
    )
    step("AddOrRemoveServicePermissions add", lambda: has(perm in act("add", perm, star).permissions, "not echoed"))

    def list_perm():
        r = perms(permission=perm, limit=500, offset=0, sort_key="created_at", sort_dir="asc")
        eq([x.permission for x in r.permissions], [perm], "filtered")
        has(r.permissions[0].id, "id")
        isdate(r.permissions[0].created_at)

    step("ListServicePermissionsDetails", list_perm)
    step(
        "AddOrRemoveServicePermissions remove",
        lambda: (
            act("remove", star),
            eq(any(x.permission in ("*", star) for x in perms().permissions), False, "still there"),
        ),
    )

    # endpoint
    def mkep():
        r = C.create_endpoint(
            M.CreateEndpointRequest(
                body=M.CreateEndpointRequestBody(
                    subnet_id=E["NETWORK_ID"],
                    endpoint_service_id=sid,
                    vpc_id=E["VPC_ID"],
                    enable_dns=True,
                    whitelist=["10.0.0.0/8"],
                    enable_whitelist=True,
                    tags=[M.TagList(key="k1", value="v1")],
                    description="ep",
                )
            )
        )
        has(r.status_code in (200, 201) and isinstance(r.marker_id, int), "status/marker_id")
        eq(r.endpoint_service_id, sid, "service id")
        return r

    ep = step("CreateEndpoint", mkep)
    if ep:
        eid = ep.id
        step(
            "ListEndpointInfoDetails (until pendingAcceptance)",
            lambda: until(lambda: ep_get(eid), lambda r: r.status == "pendingAcceptance"),
        )
        conns = lambda **k: C.list_service_connections(
            M.ListServiceConnectionsRequest(vpc_endpoint_service_id=sid, **k)
        )

        def list_conn():
            r = conns(id=eid, limit=10, offset=0, sort_key="created_at", sort_dir="desc")
            eq([(c.id, c.status) for c in r.connections], [(eid, "pendingAcceptance")], "connections")
            eq(r.connections[0].marker_id, ep.marker_id, "marker_id")
            eq([c.id for c in conns(marker_id=str(ep.marker_id)).connections], [eid], "by marker")

        step("ListServiceConnections", list_conn)

        def connact(a, want):
            r = C.accept_or_reject_endpoint(
                M.AcceptOrRejectEndpointRequest(
                    vpc_endpoint_service_id=sid, body=M.AcceptOrRejectEndpointRequestBody(action=a, endpoints=[eid])
                )
            )
            eq([c.id for c in r.connections], [eid], "echo")
            until(lambda: ep_get(eid), lambda e: e.status == want)

        step("AcceptOrRejectEndpoint reject", lambda: connact("reject", "rejected"))
        step("AcceptOrRejectEndpoint receive", lambda: connact("receive", "accepted"))

        def list_ep():
            r = C.list_endpoints(
                M.ListEndpointsRequest(
                    endpoint_service_name=name,
                    vpc_id=E["VPC_ID"],
                    limit=10,
                    offset=0,
                    sort_key="created_at",
                    sort_dir="desc",
                )
            )
            eq([x.id for x in r.endpoints], [eid], "by service name")
            eq(r.total_count, 1, "total")
            has(r.endpoints[0].ip, "ip missing once accepted")

        step("ListEndpoints", list_ep)
        step(
            "DeleteEndpointService in use is refused",
            lambda: refused(
                lambda: C.delete_endpoint_service(M.DeleteEndpointServiceRequest(vpc_endpoint_service_id=sid)),
                400,
                "EndPoint.3006",
            ),
        )

    # tags
    def tag(kind, rid, action, *kv):
        return C.batch_add_or_remove_resource_instance(
            M.BatchAddOrRemoveResourceInstanceRequest(
                resource_type=kind,
                resource_id=rid,
                body=M.BatchAddOrRemoveResourceInstanceRequestBody(
                    action=action, tags=[M.ResourceTag(key=k, value=v) for k, v in kv]
                ),
            )
        )

    for kind, rid in (("endpoint_service", sid),) + ((("endpoint", eid),) if ep else ()):
        step(
            f"BatchAddOrRemoveResourceInstance create {kind}",
            lambda: has(tag(kind, rid, "create", ("tk", "tv")).status_code in (200, 204), "status"),
        )

        def find():
            r = C.list_resource_instances(
                M.ListResourceInstancesRequest(
                    resource_type=kind,
                    body=M.QueryResourceInstanceTagsBody(
                        action="filter", limit="100", offset="0", tags=[M.TagValuesList(key="tk", values=["tv"])]
                    ),
                )
            )
            has(rid in [x.resource_id for x in r.resources], f"not found in {r.resources}")
            n = C.list_resource_instances(
                M.ListResourceInstancesRequest(
                    resource_type=kind,
                    body=M.QueryResourceInstanceTagsBody(
                        action="count", tags=[M.TagValuesList(key="tk", values=["tv"])]
                    ),
                )
            )
            has(n.total_count >= 1, "count")

        step(f"ListResourceInstances {kind}", find)
        step(
            f"ListQueryProjectResourceTags {kind}",
            lambda: has(
                any(
                    t.key == "tk" and "tv" in t.values
                    for t in C.list_query_project_resource_tags(
                        M.ListQueryProjectResourceTagsRequest(resource_type=kind)
                    ).tags
                ),
                "tag not listed",
            ),
        )
        step(
            f"BatchAddOrRemoveResourceInstance delete {kind}",
            lambda: has(tag(kind, rid, "delete", ("tk", "tv")).status_code in (200, 204), "status"),
        )

    # Documented by Huawei Cloud alone.
    step(
        "X UpdateEndpointServiceName",
        lambda: C.update_endpoint_service_name(
            M.UpdateEndpointServiceNameRequest(
                vpc_endpoint_service_id=sid,
                body=M.UpdateEndpointServiceNameRequestBody(endpoint_service_name=name + "_n"),
            )
        ),
    )

    def ext_perm():
        r = C.batch_add_endpoint_service_permissions(
            M.BatchAddEndpointServicePermissionsRequest(
                vpc_endpoint_service_id=sid,
                body=M.BatchAddEndpointServicePermissionsRequestBody(
                    permissions=[
                        M.EpsAddPermissionRequest(
                            permission="iam:domain::0123456789abcdef0123456789abcdef", description="d"
                        )
                    ]
                ),
            )
        )
        i = r.permissions[0].id
        C.update_endpoint_service_permission_desc(
            M.UpdateEndpointServicePermissionDescRequest(
                vpc_endpoint_service_id=sid,
                permission_id=i,
                body=M.UpdateEndpointServicePermissionDescRequestBody(
                    permission=M.EpsUpdatePermissionDesc(description="e")
                ),
            )
        )
        C.batch_remove_endpoint_service_permissions(
            M.BatchRemoveEndpointServicePermissionsRequest(
                vpc_endpoint_service_id=sid,
                body=M.BatchRemoveEndpointServicePermissionsRequestBody(
                    permissions=[M.EpsRemovePermissionRequest(id=i)]
                ),
            )
        )

    step("X BatchAdd/UpdateDesc/BatchRemove EndpointServicePermissions", ext_perm)
    if ep:
        step(
            "X UpdateEndpointWhite  PUT /vpc-endpoints/{id}",
            lambda: eq(
                C.update_endpoint_white(
                    M.UpdateEndpointWhiteRequest(
                        vpc_endpoint_id=eid,
                        body=M.UpdateEndpointWhiteRequestBody(whitelist=["10.1.0.0/16"], enable_whitelist=True),
                    )
                ).whitelist,
                ["10.1.0.0/16"],
                "whitelist",
            ),
        )
        step(
            "X UpdateEndpointConnectionsDesc",
            lambda: C.update_endpoint_connections_desc(
                M.UpdateEndpointConnectionsDescRequest(
                    vpc_endpoint_service_id=sid,
                    body=M.UpdateEndpointConnectionsDescRequestBody(
                        connections=[M.ConnectionsDesc(id=eid, description="c")]
                    ),
                )
            ),
        )
    gw = next((p for p in pub if p.service_type == "gateway"), None)
    if gw:

        def gateway():
            g = C.create_endpoint(
                M.CreateEndpointRequest(body=M.CreateEndpointRequestBody(endpoint_service_id=gw.id, vpc_id=E["VPC_ID"]))
            )
            try:
                until(lambda: ep_get(g.id), lambda r: r.status == "accepted")
                C.update_endpoint_policy(
                    M.UpdateEndpointPolicyRequest(
                        vpc_endpoint_id=g.id,
                        body=M.UpdateEndpointPolicyRequestBody(
                            policy_statement=[
                                M.PolicyStatement(effect="Allow", action=["obs:*:*"], resource=["obs:*:*:*:*"])
                            ]
                        ),
                    )
                )
                C.delete_endpoint_policy(M.DeleteEndpointPolicyRequest(vpc_endpoint_id=g.id))
            finally:
                C.delete_endpoint(M.DeleteEndpointRequest(vpc_endpoint_id=g.id))

        step("X gateway endpoint + UpdateEndpointPolicy + DeleteEndpointPolicy", gateway)

    # errors and authentication
    zero = "00000000-0000-4000-8000-000000000000"
    step("404 body has error_code/error_msg", lambda: refused(lambda: svc_get(zero), 404))
    step(
        "wrong SK is refused 401",
        lambda: refused(lambda: client(sk="wrong").list_quota_details(M.ListQuotaDetailsRequest()), 401),
    )
    step(
        "unknown AK is refused 401",
        lambda: refused(lambda: client(ak="NOSUCHKEY").list_quota_details(M.ListQuotaDetailsRequest()), 401),
    )

    def stale():
        r = M.ListQuotaDetailsRequest()
        info = {
            "X-Sdk-Date": (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)).strftime(
                "%Y%m%dT%H%M%SZ"
            )
        }
        return C.list_quota_details_invoker(r).add_header("X-Sdk-Date", info["X-Sdk-Date"]).invoke()

    step("X-Sdk-Date one hour old is refused 401", lambda: refused(stale, 401))
    # This needs a project whose name is exactly the region.
    step(
        "project id found through IAM (GET /v3/projects?name=<region>)",
        lambda: client(pid=None, region=Region(E["REGION"], BASE)).list_quota_details(M.ListQuotaDetailsRequest()),
    )

    # delete
    if ep:
        step(
            "DeleteEndpoint",
            lambda: has(
                C.delete_endpoint(M.DeleteEndpointRequest(vpc_endpoint_id=eid)).status_code in (200, 204), "status"
            ),
        )
        step("endpoint gone (404)", gone(lambda: ep_get(eid)))
    step(
        "DeleteEndpointService",
        lambda: has(
            C.delete_endpoint_service(M.DeleteEndpointServiceRequest(vpc_endpoint_service_id=sid)).status_code
            in (200, 204),
            "status",
        ),
    )
    step("service gone (404)", gone(lambda: svc_get(sid)))


try:
    main()
except Exception:  # noqa: BLE001
    traceback.print_exc()
    nfail += 1
sys.exit(1 if nfail else 0)
