// Reads a list of simulations from standard input and writes what each came to: one of its words, or an error.
import { readFileSync } from 'node:fs'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const answers = []
for (const simulation of JSON.parse(readFileSync(0, 'utf8'))) {
  const result = await runSimulation(simulation, {})
  answers.push({
    result: result.overallResult ?? '',
    ignored: result.result?.ignoredContextKeys ?? [],
    errors: result.errors ? JSON.stringify(result.errors) : '',
  })
}
process.stdout.write(JSON.stringify(answers))
