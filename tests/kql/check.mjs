// Reads {"name": "KQL", ...} from stdin and prints {"name": ["error", ...], ...}: what the Kusto language service
// says of each query against the columns that customMetrics and customEvents have in Application Insights, and those that
// are documented of the tables of Log Analytics that the rules' words ask.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
const require = createRequire(import.meta.url);
require("@kusto/language-service-next/bridge.js");
require("@kusto/language-service-next/Kusto.Language.Bridge.js");

const columns =
  "(timestamp: datetime, name: string, value: real, valueCount: int, valueSum: real, valueMin: real, valueMax: real, " +
  "valueStdDev: real, customDimensions: dynamic, cloud_RoleName: string, cloud_RoleInstance: string, " +
  "application_Version: string, itemType: string)";
const tables = {
  customMetrics: columns,
  customEvents:
    "(timestamp: datetime, name: string, customDimensions: dynamic, cloud_RoleName: string, cloud_RoleInstance: string, " +
    "application_Version: string, itemCount: int, itemType: string)",
  AzureActivity:
    "(TimeGenerated: datetime, Caller: string, OperationNameValue: string, ActivityStatusValue: string, " +
    "CategoryValue: string, CorrelationId: string, _ResourceId: string)",
  AmlComputeClusterEvent:
    "(TimeGenerated: datetime, ClusterName: string, ClusterType: string, EventType: string, AllocationState: string, " +
    "ProvisioningState: string, VmSize: string, VmPriority: string, CurrentNodeCount: int, TargetNodeCount: int, " +
    "IdleNodeCount: int, RunningNodeCount: int, PreparingNodeCount: int, MinimumNodeCount: int, " +
    "MaximumNodeCount: int, QuotaAllocated: string, QuotaUtilized: string, _ResourceId: string)",
  AmlComputeJobEvent:
    "(TimeGenerated: datetime, JobId: string, JobName: string, ExperimentName: string, ClusterId: string, " +
    "ClusterName: string, EventType: string, ExecutionState: string, _ResourceId: string)",
  AmlOnlineEndpointTrafficLog:
    "(TimeGenerated: datetime, EndpointName: string, DeploymentName: string, Method: string, ResponseCode: int, " +
    "ModelStatusCode: int, AuthType: string, _ResourceId: string)",
};
const symbols = Object.entries(tables).map(([name, own]) => Kusto.Language.Symbols.TableSymbol.From(own).WithName(name));
const database = new Kusto.Language.Symbols.DatabaseSymbol.$ctor1("insights", symbols);
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
