output "evidence" {
  description = "Bucket and keys."
  value       = aws_cloudformation_stack.evidence.outputs
}

output "control" {
  description = "State machine, event bus, topic, and the settings for the flashtap command."
  value       = aws_cloudformation_stack.control.outputs
}

output "spoke" {
  description = "Roles and external id for the central account; null when none is configured."
  value       = one(aws_cloudformation_stack.spoke[*].outputs)
}
