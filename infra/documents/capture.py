"""Starts a capture of one instance, and waits until it is clear that it was not refused."""
import json
import time

import boto3

# Preflight answers within seconds; a refusal ends the execution.
TRIES = 6
PAUSE = 5


def handler(given, context):
    states = boto3.client("stepfunctions")
    request = {"instanceId": given["Instance"], "reason": given["Reason"]}
    if given["Case"]:
        request["case"] = given["Case"]
    if int(given["Seconds"]) > 0:
        request["durationSeconds"] = int(given["Seconds"])
    # Named for the run of this document: when the step is tried again, it starts nothing else.
    execution = states.start_execution(
        stateMachineArn=given["StateMachine"], name="by-document-" + given["Run"], input=json.dumps(request, sort_keys=True)
    )["executionArn"]
    for _ in range(TRIES):
        time.sleep(PAUSE)
        seen = states.describe_execution(executionArn=execution)
        if seen["status"] in ("FAILED", "TIMED_OUT", "ABORTED"):
            raise Exception("%s: %s (%s)" % (seen.get("error", seen["status"]), seen.get("cause", "no cause is given"), execution))
    return {"Execution": execution, "Status": seen["status"]}
