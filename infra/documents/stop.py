"""Asks the collector of a capture to upload what it holds and to end; everything else then ends by itself."""
import datetime
import json

import boto3
import botocore.exceptions


def handler(given, context):
    ec2 = boto3.client("ec2")
    pages = ec2.get_paginator("describe_instances").paginate(
        # Tags alone prove nothing, for many may tag; the instance profile is ours alone.
        Filters=[
            {"Name": "tag:flashtap:capture", "Values": [given["Capture"]]},
            {"Name": "tag:flashtap:deployment", "Values": [given["Deployment"]]},
            {"Name": "iam-instance-profile.arn", "Values": [given["InstanceProfile"]]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
    )
    instances = [i["InstanceId"] for page in pages for r in page.get("Reservations", []) for i in r["Instances"]]
    if not instances:
        raise Exception(
            "capture %s has no running collector in deployment %s: it is over, it has not launched one yet, or the id is wrong"
            % (given["Capture"], given["Deployment"])
        )
    ec2.create_tags(Resources=instances, Tags=[{"Key": "flashtap:stop", "Value": "operator"}])
    for instance in instances:
        record(given, instance)
    return {"Collectors": ", ".join(sorted(instances)), "Result": "asked to stop; the capture is sealed within minutes"}


def record(given, instance):
    """Keeps the act in the chain of custody. The first record stands, so the object is only created."""
    s3 = boto3.client("s3")
    # By the header and not by the parameter, which older versions of the SDK do not know.
    s3.meta.events.register("before-sign.s3.PutObject", lambda request, **_: request.headers.add_header("If-None-Match", "*"))
    act = "asked-to-stop-" + instance
    entry = {
        "version": 1,
        "capture": given["Capture"],
        "actor": "operator",
        "act": act,
        "at": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "resource": instance,
        "detail": {"automation": given["Run"], "reason": given["Reason"], "tool": "SSM document"},
    }
    try:
        s3.put_object(
            Bucket=given["Bucket"],
            Key="captures/%s/custody/operator-%s.json" % (given["Capture"], act),
            # The canonical form of RFC 8785, as every record has.
            Body=json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(),
            ContentType="application/json",
            ChecksumAlgorithm="SHA256",
        )
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "PreconditionFailed":
            raise
