variable "cdk_out" {
  description = "The folder that `make synth` has written: templates, and the assets that they name."
  type        = string

  validation {
    condition     = fileexists("${var.cdk_out}/manifest.json")
    error_message = "There is no manifest.json in cdk_out: run `make build synth` first."
  }
}

variable "tags" {
  description = "Tags on the stacks, and through them on what they make, beside those given to `make synth` by the context key tags."
  type        = map(string)
  default     = {}
}

variable "iam_role_arn" {
  description = "The role with which CloudFormation makes the stacks; null means with the permissions of whoever runs Terraform."
  type        = string
  default     = null
}

variable "timeout_in_minutes" {
  description = "How long one stack may take before it is rolled back."
  type        = number
  default     = 30
}
