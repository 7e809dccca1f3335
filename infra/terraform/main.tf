# Deploys the templates that `make synth` has written, as they are: there is no second description of the deployment. What
# `cdk deploy` does beside that, publishing assets and keeping the order of the stacks, is done here.

data "aws_caller_identity" "here" {}
data "aws_partition" "here" {}
data "aws_region" "here" {}

locals {
  artifacts = jsondecode(file("${var.cdk_out}/manifest.json")).artifacts

  # In this order they can be made. The spoke stack is there only when a hub account is configured.
  kinds = [for kind in ["evidence", "collector", "control", "observability", "spoke"] : kind if contains(keys(local.artifacts), kind)]

  # s3://<bucket>/<key>, with placeholders for account and Region in the bucket's name.
  template = { for kind in local.kinds : kind => split("/", trimprefix(local.artifacts[kind].properties.stackTemplateAssetObjectUrl, "s3://")) }

  stacks = { for kind in local.kinds : kind => {
    name = local.artifacts[kind].properties.stackName
    url = format("https://%s.s3.%s.%s/%s",
      replace(replace(local.template[kind][0], "$${AWS::AccountId}", data.aws_caller_identity.here.account_id), "$${AWS::Region}", data.aws_region.here.region),
      data.aws_region.here.region, data.aws_partition.here.dns_suffix, local.template[kind][1]
    )
  } }

  # Each asset once, whichever stacks name it; its key contains its digest, so a changed one is another object.
  assets = { for id, asset in merge([for kind in local.kinds : jsondecode(file("${var.cdk_out}/${kind}.assets.json")).files]...) : id => {
    path      = "${var.cdk_out}/${asset.source.path}"
    packaging = asset.source.packaging
    key       = values(asset.destinations)[0].objectKey
    bucket = replace(replace(values(asset.destinations)[0].bucketName, "$${AWS::AccountId}", data.aws_caller_identity.here.account_id),
    "$${AWS::Region}", data.aws_region.here.region)
  } }
}

resource "aws_s3_object" "file" {
  for_each = { for id, asset in local.assets : id => asset if asset.packaging == "file" }

  bucket = each.value.bucket
  key    = each.value.key
  source = each.value.path
}

# Folders are functions. Their program must stay executable in the archive.
data "archive_file" "folder" {
  for_each = { for id, asset in local.assets : id => asset if asset.packaging == "zip" }

  type             = "zip"
  source_dir       = each.value.path
  output_path      = "${path.root}/.terraform/flashtap/${each.key}.zip"
  output_file_mode = "0755"
}

resource "aws_s3_object" "folder" {
  for_each = data.archive_file.folder

  bucket = local.assets[each.key].bucket
  key    = local.assets[each.key].key
  source = each.value.output_path
}

resource "aws_cloudformation_stack" "evidence" {
  name               = local.stacks["evidence"].name
  template_url       = local.stacks["evidence"].url
  capabilities       = ["CAPABILITY_NAMED_IAM"]
  iam_role_arn       = var.iam_role_arn
  timeout_in_minutes = var.timeout_in_minutes
  tags               = var.tags

  depends_on = [aws_s3_object.file, aws_s3_object.folder]
}

resource "aws_cloudformation_stack" "collector" {
  name               = local.stacks["collector"].name
  template_url       = local.stacks["collector"].url
  capabilities       = ["CAPABILITY_NAMED_IAM"]
  iam_role_arn       = var.iam_role_arn
  timeout_in_minutes = var.timeout_in_minutes
  tags               = var.tags

  depends_on = [aws_cloudformation_stack.evidence]
}

resource "aws_cloudformation_stack" "control" {
  name               = local.stacks["control"].name
  template_url       = local.stacks["control"].url
  capabilities       = ["CAPABILITY_NAMED_IAM"]
  iam_role_arn       = var.iam_role_arn
  timeout_in_minutes = var.timeout_in_minutes
  tags               = var.tags

  depends_on = [aws_cloudformation_stack.collector]
}

resource "aws_cloudformation_stack" "observability" {
  name               = local.stacks["observability"].name
  template_url       = local.stacks["observability"].url
  capabilities       = ["CAPABILITY_NAMED_IAM"]
  iam_role_arn       = var.iam_role_arn
  timeout_in_minutes = var.timeout_in_minutes
  tags               = var.tags

  depends_on = [aws_cloudformation_stack.control]
}

resource "aws_cloudformation_stack" "spoke" {
  count = contains(local.kinds, "spoke") ? 1 : 0

  name               = local.stacks["spoke"].name
  template_url       = local.stacks["spoke"].url
  capabilities       = ["CAPABILITY_NAMED_IAM"]
  iam_role_arn       = var.iam_role_arn
  timeout_in_minutes = var.timeout_in_minutes
  tags               = var.tags

  depends_on = [aws_cloudformation_stack.control]
}
