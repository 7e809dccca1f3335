"""Sweeps the deployment until nothing is left of captures that are over, and shows the sweep's own report."""
import json
import time

import boto3
from botocore.config import Config

# One pass rarely suffices: an instance that is told to end is there for a while, and holds on to its security group.
TRIES = 4
PAUSE = 60


def handler(given, context):
    functions = boto3.client("lambda", config=Config(read_timeout=240, retries={"max_attempts": 0}))
    for n in range(TRIES):
        if n > 0:
            time.sleep(PAUSE)
        answer = functions.invoke(FunctionName=given["Sweep"], Payload=b"{}")
        text = answer["Payload"].read().decode()
        if "FunctionError" in answer:
            raise Exception("the sweep failed: " + text)
        report = json.loads(text)
        if not report["remaining"] and not report["refused"]:
            there = "nothing is there at all"
            if report["oldest"]:
                there = "only captures that still run have anything; the oldest began %d s ago" % report["oldest"]
            return {"Result": "nothing is left of captures that are over; " + there, "Report": text}
        if report["refused"]:
            break  # no pass changes that; a person must
    raise Exception("%d things remain, %d bear our tags and are not provably ours: %s" % (report["remaining"], len(report["refused"] or []), text))
