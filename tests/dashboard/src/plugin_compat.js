// In place of @grafana/plugin-compat/datasources, which asks a Grafana server for what is here the one
// data source.

import { Prometheus, UID } from './data_source.js';

const source = new Prometheus();
const settings = { uid: UID, name: 'Prometheus', type: 'prometheus', isDefault: true, meta: source.meta };

export const getDataSourceInstance = async () => source;
export const getDataSourceInstanceSettings = async () => settings;
export const getDataSourceInstanceList = async () => [settings];
export const getDefaultDataSourceInstanceListItem = async () => settings;
