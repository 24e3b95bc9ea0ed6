// Reads {"name": "KQL", ...} from stdin and prints {"name": ["error", ...], ...}: what the Kusto language service
// says of each query against the columns that customMetrics and customEvents have in Application Insights.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
const require = createRequire(import.meta.url);
require("@kusto/language-service-next/bridge.js");
require("@kusto/language-service-next/Kusto.Language.Bridge.js");

const columns =
  "(timestamp: datetime, name: string, value: real, valueCount: int, valueSum: real, valueMin: real, valueMax: real, " +
  "valueStdDev: real, customDimensions: dynamic, cloud_RoleName: string, cloud_RoleInstance: string, " +
  "application_Version: string, itemType: string)";
const table = Kusto.Language.Symbols.TableSymbol.From(columns).WithName("customMetrics");
const events = Kusto.Language.Symbols.TableSymbol.From(
  "(timestamp: datetime, name: string, customDimensions: dynamic, cloud_RoleName: string, cloud_RoleInstance: string, " +
  "application_Version: string, itemCount: int, itemType: string)",
).WithName("customEvents");
const database = new Kusto.Language.Symbols.DatabaseSymbol.$ctor1("insights", [table, events]);
const globals = Kusto.Language.GlobalState.Default.WithDatabase(database);

const told = {};
for (const [name, query] of Object.entries(JSON.parse(readFileSync(0, "utf8")))) {
  const found = Kusto.Language.KustoCode.ParseAndAnalyze(query, globals).GetDiagnostics();
  told[name] = [];
  for (let n = 0; n < found.Count; n++) {
    const one = found.getItem ? found.getItem(n) : found.get(n);
    told[name].push(`${one.Severity}: ${one.Message} at ${query.slice(one.Start, one.Start + one.Length)}`);
  }
}
process.stdout.write(JSON.stringify(told));
