// A dashboard of deploy/grafana as Grafana shows it: its scenes, its variables, its panels' chrome.
//
//   /?dashboard=links&theme=dark&from=now-15m&to=now&var-pod=…
//
// window.report() says of each panel what it holds; it is ready once nothing loads any longer.

import { createTheme, LoadingState } from '@grafana/data';
import { config, setAppEvents, setPluginImportUtils, setRunRequest, setTemplateSrv, LocationServiceProvider, locationService } from '@grafana/runtime';
import {
  DataSourceVariable, EmbeddedScene, QueryVariable, SceneControlsSpacer, SceneDataLayerSet,
  SceneDataTransformer, SceneObjectBase, SceneQueryRunner, SceneTimePicker, SceneTimeRange, SceneVariableSet, VariableValueSelectors,
  VizPanel, dataLayers, sceneGraph,
} from '@grafana/scenes';
import { GlobalStyles, PortalContainer, ThemeContext } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { BrowserRouter } from 'react-router-dom';
import { EventBusSrv } from '@grafana/data';

import { Prometheus, UID } from './data_source.js';
import { PANELS, registerPanels } from './panels.jsx';
import { fillRegistries } from './registries.js';

const search = new URLSearchParams(window.location.search);
const theme = createTheme({ colors: { mode: search.get('theme') ?? 'dark' } });

// Of what a dashboard says and this page does not know.
const problems = [];

class Grid extends SceneObjectBase {
  static Component = ({ model }) => {
    const { panels, rows, places } = model.useState();
    const bottom = Math.max(...places.map(({ y, h }) => y + h));
    // Grafana's grid: 24 columns, rows of 30 px, 8 px between.
    const box = ({ x, y, w, h }) => ({
      position: 'absolute', left: `calc(${(x / 24) * 100}% + 4px)`, width: `calc(${(w / 24) * 100}% - 8px)`, top: y * 38, height: h * 38 - 8,
    });
    return (
      <div style={{ position: 'relative', flexGrow: 1, height: bottom * 38 }}>
        {rows.map(({ id, gridPos, title }) => <h4 key={id} style={{ ...box(gridPos), margin: '4px 4px' }}>{title}</h4>)}
        {panels.map((panel, n) => <div key={panel.state.key} style={box(places[n])}><panel.Component model={panel} /></div>)}
      </div>
    );
  };
}

function variable(one) {
  const common = { name: one.name, label: one.label, hide: one.hide };
  if (one.type === 'datasource') {
    return new DataSourceVariable({ ...common, pluginId: one.query });
  }
  if (one.type === 'query') {
    const asked = search.getAll(`var-${one.name}`);
    return new QueryVariable({
      ...common, query: one.query, datasource: one.datasource, refresh: one.refresh, sort: one.sort, isMulti: one.multi,
      includeAll: one.includeAll, allValue: one.allValue, regex: one.regex,
      value: asked.length ? asked : one.current.value, text: asked.length ? asked : one.current.text,
    });
  }
  problems.push(`variable ${one.name}: type ${one.type}`);
  return null;
}

function vizPanel(panel) {
  const [, known] = PANELS[panel.type] ?? [];
  if (!known) {
    problems.push(`panel ${panel.title}: type ${panel.type}`);
    return null;
  }
  for (const option of Object.keys(panel.fieldConfig.defaults.custom ?? {})) {
    if (!(option in known)) {
      problems.push(`panel ${panel.title}: option custom.${option}`);
    }
  }
  const runner = new SceneQueryRunner({ queries: panel.targets, datasource: panel.datasource, maxDataPoints: panel.maxDataPoints, minInterval: panel.interval });
  return new VizPanel({
    key: `panel-${panel.id}`, title: panel.title, description: panel.description, pluginId: panel.type, options: panel.options,
    fieldConfig: panel.fieldConfig, displayMode: panel.transparent ? 'transparent' : 'default',
    $data: new SceneDataTransformer({ $data: runner, transformations: panel.transformations ?? [] }),
  });
}

function scene(dashboard) {
  // A row that is collapsed holds its panels; here it is open.
  const all = dashboard.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
  const rows = all.filter((panel) => panel.type === 'row');
  const shown = all.map((panel) => [panel.type === 'row' ? null : vizPanel(panel), panel.gridPos]).filter(([panel]) => panel);
  const grid = new Grid({ rows, panels: shown.map(([panel]) => panel), places: shown.map(([, place]) => place) });
  return new EmbeddedScene({
    $timeRange: new SceneTimeRange({ from: search.get('from') ?? dashboard.time.from, to: search.get('to') ?? dashboard.time.to, timeZone: 'utc' }),
    $variables: new SceneVariableSet({ variables: dashboard.templating.list.map(variable).filter(Boolean) }),
    $data: new SceneDataLayerSet({
      layers: dashboard.annotations.list.filter((one) => one.enable && !one.builtIn).map((query) => new dataLayers.AnnotationsDataLayer({ name: query.name, query })),
    }),
    controls: [new VariableValueSelectors({}), new SceneControlsSpacer(), new SceneTimePicker({})],
    body: grid,
  });
}

function report(root) {
  const variables = sceneGraph.getVariables(root).state.variables.map((one) => ({ name: one.state.name, loading: Boolean(one.state.loading), error: one.state.error ? String(one.state.error) : undefined }));
  const panels = root.state.body.state.panels.map((panel) => {
    const { data } = sceneGraph.getData(panel).state;
    const { key, title, pluginId, fieldConfig, _pluginLoadError } = panel.state;
    const series = data?.series ?? [];
    return {
      key, title, type: pluginId, state: data?.state ?? LoadingState.NotStarted,
      series: series.length, points: series.reduce((sum, frame) => sum + frame.length, 0),
      // A panel that says what its emptiness means may be empty.
      empty_means: fieldConfig.defaults.noValue,
      errors: [...(data?.errors ?? []).map(({ message }) => message), ...(_pluginLoadError ? [_pluginLoadError] : [])],
    };
  });
  const ended = (panel) => panel.state === LoadingState.Done || panel.state === LoadingState.Error;
  return { ready: variables.every((one) => !one.loading) && panels.every(ended), problems, variables, panels };
}

async function main() {
  fillRegistries();
  registerPanels();
  config.theme2 = theme;
  config.bootData.user ??= {};
  setAppEvents(new EventBusSrv());
  setRunRequest(Prometheus.runRequest);
  setTemplateSrv({ getVariables: () => [], replace: (text) => text, containsTemplate: () => false, updateTimeRange: () => {} });
  setPluginImportUtils({ importPanelPlugin: (id) => Promise.reject(new Error(`no panel ${id}`)), getPanelPluginFromCache: () => undefined });

  const dashboard = await (await fetch(`/dashboards/${search.get('dashboard') ?? 'links'}.json`)).json();
  const root = scene(dashboard);
  window.report = () => report(root);
  document.title = dashboard.title;
  document.body.style.background = theme.colors.background.canvas;
  createRoot(document.getElementById('page')).render(
    <BrowserRouter>
      <LocationServiceProvider service={locationService}>
        <ThemeContext.Provider value={theme}>
          <GlobalStyles />
          <div style={{ padding: 16 }}>
            <h3 style={{ margin: '0 4px 12px' }}>{dashboard.title}</h3>
            <root.Component model={root} />
          </div>
          <PortalContainer />
        </ThemeContext.Provider>
      </LocationServiceProvider>
    </BrowserRouter>,
  );
}

main().catch((error) => {
  document.body.textContent = error.stack;
  window.report = () => ({ ready: true, problems: [error.message], variables: [], panels: [] });
});
