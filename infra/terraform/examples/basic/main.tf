# Run from the repository: `make build synth`, then `terraform init` and `terraform apply` here.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0"
    }
  }
}

provider "aws" {
  region = "eu-central-1"
}

module "flashtap" {
  source  = "../.."
  cdk_out = "${path.module}/../../../../cdk.out"

  tags = {
    Team = "soc"
  }
}

output "state_machine" {
  value = module.flashtap.control["StateMachineArn"]
}
