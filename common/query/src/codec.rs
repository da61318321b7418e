//! Fragments as bytes: DataFusion's encoding of operators, with our leaves, functions and aggregates by their descriptions.

use crate::aggregate::{self, Definition};
use crate::error::{external, sql_error};
use crate::leaf::{ScanExec, StoredTable};
use crate::scalar::{self, ScalarKind};
use bytes::{BufMut, Bytes, BytesMut};
use datafusion::common::{Result, not_impl_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use toroid_common::decode::decode;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::hash::hash_bytes;

/// The codec of one statement.
#[derive(Debug)]
struct Codec {
    env: Arc<Env>,
}

/// A plan as bytes.
pub fn encode(plan: Arc<dyn ExecutionPlan>) -> SqlResult<Bytes> {
    let codec = Codec { env: Arc::new(Env::default()) };
    physical_plan_to_bytes_with_extension_codec(plan, &codec).map_err(sql_error)
}

/// The plan as it goes to one of several sites: each draws random values of its own.
pub fn address(plan: &Bytes, site: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(plan.len() + 8);
    out.put_u64_le(hash_bytes(plan) ^ u64::from(site));
    out.extend_from_slice(plan);
    out.freeze()
}

/// What [`address`] made, for the statement's environment at this site.
pub fn receive(bytes: &[u8], mut env: Env, context: &TaskContext) -> SqlResult<Arc<dyn ExecutionPlan>> {
    let (salt, plan) = bytes.split_first_chunk().ok_or_else(|| SqlError::internal("a fragment without a plan"))?;
    env.seed ^= u64::from_le_bytes(*salt);
    plan_from(plan, &Arc::new(env), context)
}

/// A plan from bytes, its functions with the statement's environment.
fn plan_from(bytes: &[u8], env: &Arc<Env>, context: &TaskContext) -> SqlResult<Arc<dyn ExecutionPlan>> {
    let codec = Codec { env: Arc::clone(env) };
    physical_plan_from_bytes_with_extension_codec(bytes, context, &codec).map_err(sql_error)
}

fn write<T: Serialize>(value: &T, buf: &mut Vec<u8>) -> Result<()> {
    let bytes = postcard::to_allocvec(value).map_err(|error| external(SqlError::internal(error)))?;
    buf.extend_from_slice(&bytes);
    Ok(())
}

fn read<T: DeserializeOwned>(buf: &[u8]) -> Result<T> {
    decode(buf).map_err(|error| external(SqlError::internal(format_args!("a fragment: {error}"))))
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        buf: &[u8],
        _: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(ScanExec::new(read::<StoredTable>(buf)?, 1)))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let any: &dyn std::any::Any = node.as_ref();
        match any.downcast_ref::<ScanExec>() {
            Some(scan) => write(scan.stored(), buf),
            None => not_impl_err!("{} in a fragment", node.name()),
        }
    }

    fn try_decode_udf(&self, _: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        Ok(Arc::new(scalar::scalar(read::<ScalarKind>(buf)?, &self.env)))
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        match scalar::kind_of(node) {
            Some(kind) => write(&kind, buf),
            None => not_impl_err!("function {} in a fragment", node.name()),
        }
    }

    fn try_decode_udaf(&self, _: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        Ok(Arc::new(aggregate::aggregate(read::<Definition>(buf)?)))
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        match aggregate::definition_of(node) {
            Some(definition) => write(definition, buf),
            None => not_impl_err!("aggregate {} in a fragment", node.name()),
        }
    }
}
