"""Makes a stack of the template $1 in moto, prints its resources, and writes a host's user data into the file $2."""

import base64
import os
import pathlib
import sys

import boto3
from moto import mock_aws

for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
    os.environ[name] = "test"
REGION = "us-east-1"
# What moto 5.2 leaves out of a stack.
UNKNOWN_TO_MOTO = {
    "AWS::SecretsManager::Secret",
    "AWS::ECS::CapacityProvider",
    "AWS::ECS::ClusterCapacityProviderAssociations",
}
template, user_data = map(pathlib.Path, sys.argv[1:3])


def client(service):
    return boto3.client(service, region_name=REGION)


def parameters():
    ec2 = client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"][:2]]
    values = {"Vpc": vpc, "Subnets": ",".join(subnets), "ProgramUrl": "https://example.com/mapkeeper", "ProgramSha256": "0" * 64}
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]


def allowed(document):
    """Every action; none may be a whole service."""
    for statement in document["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in action for action in actions), statement
        yield from actions


@mock_aws
def main():
    cloudformation = client("cloudformation")
    cloudformation.create_stack(
        StackName="maps", TemplateBody=template.read_text(), Parameters=parameters(), Capabilities=["CAPABILITY_IAM"]
    )
    stack = cloudformation.describe_stacks(StackName="maps")["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack
    made = cloudformation.describe_stack_resources(StackName="maps")["StackResources"]
    resources = {one["LogicalResourceId"]: one for one in made if "LogicalResourceId" in one}
    for name, one in sorted(resources.items()):
        print(f"{name:16} {one['ResourceType']:46} {one.get('PhysicalResourceId', '')}")
    wanted = cloudformation.get_template_summary(TemplateBody=template.read_text())["ResourceTypes"]
    missing = sorted(set(wanted) - {one["ResourceType"] for one in resources.values()})
    print("not known to moto, checked by cfn-lint alone:", *missing)
    assert set(missing) == UNKNOWN_TO_MOTO, missing

    def of(name):
        return resources[name]["PhysicalResourceId"]

    # The reader's key is there for the secret, and the reader may only read.
    assert client("iam").list_access_keys(UserName=of("Reader"))["AccessKeyMetadata"][0]["AccessKeyId"] == of("ReaderKey")
    reads = client("iam").get_user_policy(UserName=of("Reader"), PolicyName="reads-maps")["PolicyDocument"]
    assert sorted(allowed(reads)) == ["s3:GetObject", "s3:ListBucket"], reads
    policy = client("iam").get_role_policy(RoleName=of("HostRole"), PolicyName="host")["PolicyDocument"]
    print("allowed to a host:", " ".join(sorted(allowed(policy))))

    template_data = client("ec2").describe_launch_template_versions(LaunchTemplateId=of("HostTemplate"))
    data = template_data["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    assert data["MetadataOptions"]["HttpTokens"] == "required", data
    user_data.write_bytes(base64.b64decode(data["UserData"]))
    target = client("elbv2").describe_target_groups()["TargetGroups"][0]
    assert (target["HealthCheckPath"], target["HealthCheckPort"]) == ("/healthz", "8081"), target


main()
